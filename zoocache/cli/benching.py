"""`bench`: runs the measurement, and draws its tables."""

from __future__ import annotations

import json
import os
import sys

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from zoocache import measure as measuring
from zoocache.measure import CACHEABLE, DICT, IN_PROCESS, ZOOCACHE, Results


def measure(seconds: float, as_json: bool) -> None:
    """Measures and prints."""
    # Without a thread of its own: the measurement forks.
    console = Console(file=sys.stderr)
    with Progress(console=console, transient=True, auto_refresh=False) as progress:
        task = progress.add_task("", total=1.0)

        def note(what: str, share: float) -> None:
            progress.update(task, description=what, completed=share, refresh=True)

        results = measuring.measure(seconds, note)
    if as_json:
        figures = [figure._asdict() for figure in results.figures]
        scaling = [one._asdict() for one in results.scaling]
        print(json.dumps({"figures": figures, "scaling": scaling}, indent=2))
        return
    console = Console(file=sys.stdout)
    console.print(_times(results))
    console.print(_scaling(results))
    load = os.getloadavg()[0]
    console.print(
        f"{results.seconds:.0f} s, {len(os.sched_getaffinity(0))} cores, load average {load:.1f}. "
        f"Times of a busy machine are noise; ratios are not."
    )


def _times(results: Results) -> Table:
    """A line for each thing and size: each contender's time, and ratios."""
    by = {(one.what, one.size, one.who): one.ns for one in results.figures}
    table = Table(title="nanoseconds for one operation (median)", title_justify="left")
    for name in ("", "value", DICT, IN_PROCESS, ZOOCACHE, "to dict", "to in-process"):
        table.add_column(name, justify="left" if name in ("", "value") else "right")
    for what, size in dict.fromkeys((one.what, one.size) for one in results.figures):
        zoocache = by[what, size, ZOOCACHE]
        others = [by.get((what, size, who)) for who in (DICT, IN_PROCESS)]
        shown = ["-" if ns is None else f"{ns:,.0f}" for ns in others]
        ratios = ["-" if ns is None else f"{zoocache / ns:.2f}x" for ns in others]
        table.add_row(what, size, *shown, f"{zoocache:,.0f}", *ratios)
        function = by.get((what, size, CACHEABLE))
        if function is not None:
            ratios = ["-" if ns is None else f"{function / ns:.2f}x" for ns in others]
            table.add_row(f"{what}, {CACHEABLE}", size, *shown, f"{function:,.0f}", *ratios)
    return table


def _scaling(results: Results) -> Table:
    table = Table(title="hits of 100 B, processes together", title_justify="left")
    for name in ("processes", "hits/s", "to one"):
        table.add_column(name, justify="right")
    one = results.scaling[0].hits
    for found in results.scaling:
        ratio = f"{found.hits / one:.2f}x" if one else "-"
        table.add_row(str(found.processes), f"{found.hits:,.0f}", ratio)
    return table
