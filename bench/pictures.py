"""The results as pictures: SVG files, one question each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import floors
from peers import Zoo, ZooTagged
from stampede import ZOO
from uwsgi_cache import Uwsgi

OURS, THEIRS, FLOOR = "#c2410c", "#64748b", "#cbd5e1"


def can_draw(results: dict[str, Any]) -> bool:
    """Sets matplotlib up; without it, that is noted among what is missing."""
    try:
        import matplotlib
    except ImportError:
        results["missing"]["pictures"] = "to have them: pip install matplotlib"
        return False
    matplotlib.use("svg")
    # The same results make the same file.
    matplotlib.rcParams.update(
        {"svg.hashsalt": "zoocache", "svg.fonttype": "none", "font.size": 9, "figure.dpi": 100}
    )
    return True


def draw(results: dict[str, Any], folder: Path) -> list[str]:
    """The names of the files made; none without matplotlib."""
    if not can_draw(results):
        return []
    made = []
    for name, panels in (
        ("hit", ratios(results, "get, zipf", with_floors=True)),
        ("set", ratios(results, "set", with_floors=False)),
    ):
        if panels:
            verb = "a hit" if name == "hit" else "a set"
            title = (
                f"How many times as long as zoocache {verb} takes (log scale; shorter is better)"
            )
            made.append(bars(folder / f"compare-{name}.svg", title, panels, log=True))
    if scaled := results.get("scaling"):
        panels = {
            f"two processes to one, {mix}": {name: by["ratio"] for name, by in by_name.items()}
            for mix, by_name in scaled.items()
        }
        for mix, by_name in inside_uwsgi(results, "scaling").items():
            panels[f"two processes to one, {mix}"][Uwsgi.name] = by_name[Uwsgi.name]["ratio"]
        title = "Throughput of two processes, one process being 1 (longer is better)"
        made.append(bars(folder / "compare-scaling.svg", title, panels, most=2))
    if herd := results.get("stampede"):
        panels = {
            "computations": {name: by["computations"] for name, by in herd.items()},
            "ms until all are served": {name: by["ms"] for name, by in herd.items()},
        }
        title = "Eight processes, one missing key, 50 ms of work (shorter is better)"
        made.append(bars(folder / "compare-stampede.svg", title, panels))
    if memory := results.get("memory"):
        panels = {"bytes beside key and value": memory["bytes beside key and value"]}
        title = "Memory of an entry (shorter is better)"
        made.append(bars(folder / "compare-memory.svg", title, panels))
    return made


def inside_uwsgi(results: dict[str, Any], part: str, size: str = "1 KiB") -> Mapping[str, Any]:
    return results.get("uwsgi", {}).get(size, {}).get(part, {})


def ratios(results: dict[str, Any], part: str, *, with_floors: bool) -> dict[str, Any]:
    """For each size, times of zoocache's; uWSGI's is the ratio to zoocache inside uWSGI."""
    panels = {}
    for size, taken in results.get("speed", {}).items():
        by = taken[part]
        panel = {
            name: value / by[Zoo.name]
            for name, value in by.items()
            if not name.startswith("floor") or (with_floors and name == floors.UNPACK)
        }
        inside = inside_uwsgi(results, part, size)
        if inside:
            panel[Uwsgi.name] = inside[Uwsgi.name] / inside[Zoo.name]
        panels[size] = panel
    return panels


def bars(
    path: Path,
    title: str,
    panels: Mapping[str, Mapping[str, float]],
    *,
    log: bool = False,
    most: float | None = None,
) -> str:
    """Panels side by side, with one order of rows: that of the first panel."""
    from matplotlib import pyplot

    first = next(iter(panels.values()))
    every = {name for panel in panels.values() for name in panel}
    names: Sequence[str] = sorted(every, key=lambda name: first.get(name, 0), reverse=True)
    figure, axes = pyplot.subplots(
        1, len(panels), sharey=True, squeeze=False, layout="constrained",
        figsize=(3.2 + 2.4 * len(panels), 0.9 + 0.27 * len(names)),
    )  # fmt: skip
    for axis, (label, panel) in zip(axes[0], panels.items(), strict=True):
        values = [panel.get(name, 0) for name in names]
        axis.barh(names, values, color=[color(name) for name in names])
        axis.set_title(label, fontsize=9)
        if log:
            axis.set_xscale("log")
            axis.axvline(1, color=OURS, linewidth=0.8)
        elif most:
            axis.axvline(most, color="black", linewidth=0.8, linestyle=":")
        shown = [short(panel[name]) if name in panel else "" for name in names]
        for row, (value, text) in enumerate(zip(values, shown, strict=True)):
            axis.annotate(
                text, (max(value, 0), row), xytext=(3, 0), textcoords="offset points",
                va="center", fontsize=7,
            )  # fmt: skip
        low, high = axis.get_xlim()
        axis.set_xlim(low, high * (6 if log else 1.2))
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    # Its lines end in blanks, which no diff wants.
    path.write_text("\n".join(map(str.rstrip, path.read_text().splitlines())) + "\n")
    return path.name


def color(name: str) -> str:
    if name in (Zoo.name, ZooTagged.name, ZOO) or name.startswith("zoocache"):
        return OURS
    return FLOOR if name.startswith("floor") else THEIRS


def short(value: float) -> str:
    if value == int(value) or value >= 10:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.1g}"
