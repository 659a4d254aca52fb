"""What `top` shows, drawn: pure functions of what was seen."""

from __future__ import annotations

import time
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from zoocache.cli import text
from zoocache.monitor import CAUSES, View, hit_ratio
from zoocache.shm.look import CELLS, Census, Log
from zoocache.telling import label_of

HISTORY = 60
_BARS = "▁▂▃▄▅▆▇█"
_SHADES = " ░▒▓█"
_LEAST_ROWS = 3
_WIDE = 100  # columns, for a map of one character for each cell


class Worker(NamedTuple):
    """A process that has the segment mapped."""

    pid: int
    """0: of another pid namespace."""
    age: float
    """In seconds."""
    own: int
    """Bytes of memory that it does not share."""
    cpu: float
    """Percent, since the look before."""
    status: str
    command: str


class Screen(NamedTuple):
    """All that one screen shows."""

    view: View
    name: str
    size: int
    """Of the segment, in bytes."""
    history: list[float | None]
    """Hit ratios of the last screens, the newest last."""
    workers: list[Worker]


def draw(screen: Screen, width: int, height: int) -> RenderableType:
    """The screen, for a terminal of so many columns and lines."""
    # Two pairs of lists share what the fixed parts leave: 12 lines, and 4 of frames.
    rows = max(_LEAST_ROWS, (height - 17) // 2)
    view = screen.view
    return Group(
        _title(screen),
        Panel(_figures(screen), title="hits", title_align="left"),
        Panel(_maps(view, 1 if width >= _WIDE else 2), title="map of the logs", title_align="left"),
        _side_by_side(
            Panel(
                _keys(view, rows),
                title=f"hottest keys, by {view.samples:,} samples",
                title_align="left",
            ),
            Panel(_tags(view, rows), title="hottest tags", title_align="left"),
        ),
        _side_by_side(
            Panel(_workers(screen.workers, rows), title="workers", title_align="left"),
            Panel(_dropped(view, rows), title="last invalidations", title_align="left"),
        ),
    )


def _title(screen: Screen) -> Text:
    return Text.assemble(
        ("zoocache ", "bold"),
        f"{screen.name}  {text.size(screen.size)}  ",
        f"made or cleared {text.span(screen.view.shape.age)} ago  ",
        f"{time.strftime('%H:%M:%S')}  q: quit",
        no_wrap=True,
    )


def _figures(screen: Screen) -> RenderableType:
    view, rates = screen.view, screen.view.rates
    gets = rates["hits"] + rates["local"] + rates["misses"]
    misses = ", ".join(f"{rates[cause]:,.0f} {cause}" for cause in CAUSES if rates[cause] >= 0.5)
    dropped = rates["tags"] + rates["announced"]
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_row(
        "hit ratio",
        Text.assemble(
            (f"{text.percent(hit_ratio(rates)):8}", "bold green"),
            f"{text.percent(hit_ratio(view.stats))} since it was made  ",
            (_sparkline(screen.history), "green"),
            no_wrap=True,
        ),
    )
    table.add_row(
        "per second",
        _cut(
            f"{gets:,.0f} gets: {rates['hits']:,.0f} hits, {rates['local']:,.0f} of own copies, "
            f"{rates['misses']:,.0f} misses"
        ),
    )
    table.add_row("misses", _cut(misses or "-"))
    table.add_row(
        "",
        _cut(
            f"{rates['sets']:,.0f} sets, {rates['born_dead']:,.0f} fills refused, "
            f"{dropped:,.0f} dropped, {rates['promotions']:,.0f} promotions, "
            f"{rates['evictions']:,.0f} evictions"
        ),
    )
    return table


def _sparkline(history: list[float | None]) -> str:
    return "".join(" " if r is None else _BARS[min(7, int(8 * r))] for r in history)


def _maps(view: View, together: int) -> RenderableType:
    counted = view.census
    words = counted.entries + counted.lost + counted.tentative
    load = words / (8 * view.shape.buckets)
    table = Table.grid(padding=(0, 1))
    for name, log in (("probation", view.shape.probation), ("main", view.shape.main)):
        table.add_row(name, _map(log, counted, name, together), text.size(log.size))
    told = (
        f"{counted.fresh:,} fresh entries, {text.size(counted.fresh_bytes)}; {counted.stale:,} "
        f"stale, {counted.expired:,} expired; index {100 * load:.0f} % full"
    )
    table.add_row("", _cut(told))
    return table


def _map(log: Log, counted: Census, name: str, together: int) -> Text:
    """A character for so many cells of the log."""
    shown, drawn = CELLS // together, Text()
    head, width = int(log.head * shown), log.size / shown
    for i in range(shown):
        cells = slice(i * together, (i + 1) * together)
        fresh = sum(counted.fresh_in[name][cells]) / width
        other = sum(counted.other_in[name][cells]) / width
        if i == head:
            drawn.append("|", style="bold white")
        elif log.written < log.size and i > head:
            drawn.append("·", style="dim")
        else:
            shade = _SHADES[min(4, round(4 * (fresh + other)))]
            drawn.append(shade, style="red" if other > fresh else "green")
    return drawn


def _keys(view: View, rows: int) -> RenderableType:
    if not view.keys:
        return Text("nothing was sampled yet: one get in 48 is", style="dim")
    gets = view.rates["hits"] + view.rates["misses"]
    table = _list(3)
    for hot in view.keys[:rows]:
        name = "(not in the cache)" if hot.key is None else label_of(hot.key)
        table.add_row(f"{100 * hot.share:5.1f} %", f"{_rounded(hot.share * gets)}/s", _cut(name))
    return table


def _rounded(n: float) -> str:
    """Two digits: a sample tells no more."""
    return f"{float(f'{n:.2g}'):,.0f}"


def _tags(view: View, rows: int) -> RenderableType:
    if not view.tags:
        return Text("nothing was dropped in the last minute", style="dim")
    table = _list(2)
    for hot in view.tags[:rows]:
        table.add_row(f"{hot.times:,}", _cut(hot.name))
    return table


def _workers(workers: list[Worker], rows: int) -> RenderableType:
    if not workers:
        return Text("no process that can be seen here uses it", style="dim")
    table = _list(5)
    table.add_row(*(Text(name, style="dim") for name in ("pid", "age", "own", "cpu", "")))
    shown = workers if len(workers) < rows else workers[: max(1, rows - 2)]
    for one in shown:
        stopped = one.status == "stopped"
        table.add_row(
            str(one.pid or "-"), text.span(one.age) if one.pid else "",
            text.size(one.own) if one.pid else "", f"{one.cpu:.0f} %" if one.pid else "",
            _cut(("STOPPED " if stopped else "") + one.command, "red" if stopped else ""),
        )  # fmt: skip
    if len(shown) < len(workers):
        table.add_row("", "", "", "", Text(f"and {len(workers) - len(shown)} more", style="dim"))
    return table


def _dropped(view: View, rows: int) -> RenderableType:
    if not view.dropped:
        return Text("nothing was dropped yet", style="dim")
    table, now = _list(3), time.time()
    for one in view.dropped[:rows]:
        ago = f"{text.span(now - one.when)} ago"
        table.add_row(ago, f"{one.cause} by {one.pid}", _cut(one.what))
    return table


def _list(columns: int) -> Table:
    """Lines that are cut and never wrapped; the last column has what the others leave."""
    table = Table.grid(padding=(0, 1))
    for _ in range(columns - 1):
        table.add_column(no_wrap=True, justify="right")
    table.add_column()  # it gives way, as `_cut` lets it
    return table


def _cut(content: str, style: str = "") -> Text:
    """A text that is cut where there is no room for it."""
    return Text(content, style=style, no_wrap=True, overflow="ellipsis")


def _side_by_side(left: RenderableType, right: RenderableType) -> Table:
    table = Table.grid(expand=True)
    table.add_column(ratio=1)
    table.add_column(ratio=1)
    table.add_row(left, right)
    return table
