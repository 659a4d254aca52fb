"""The results as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import floors
from goals import Goal
from invalidation import HIT
from peers import Zoo
from speed import MANY

NOTES = """\
Times are medians over interleaved rounds, in ns, on a machine that may be shared: only the ratios
within this run mean something. Behind each time are two ratios: to the floor (an empty cffi call,
then the copy of that many bytes into a bytes object) and to zoocache's time in the same process.
1,000 keys; values of random bytes. dict, lru_cache and LocMemCache live in one process; the others
share with every process of the host. memcached and Redis are asked over unix sockets. Files of
LMDB, diskcache and FileBasedCache are in shared memory: nothing waits for a disk. LMDB runs without
sync, with a transaction for each get and each set. "zoocache, tagged": entries with a tag, after
another tag was invalidated, so that every hit checks its tags.
"""


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Columns as wide as they must be; the first one to the left, the others to the right."""
    lines = [list(heads), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def times(by_size: Mapping[str, Mapping[str, float]]) -> str:
    """A row for each contender, a column for each size."""
    names = list(dict.fromkeys(name for by in by_size.values() for name in by))
    # Floors first, as they were given, then all others from the fastest to the slowest.
    first = next(iter(by_size.values()))
    names.sort(key=lambda name: (not name.startswith("floor"), first.get(name, 0)))
    rows = []
    for name in names:
        row = [name]
        for by in by_size.values():
            if name not in by:
                row += ["-", "", ""]
                continue
            floor = by.get(floors.UNPACK)
            row += [
                f"{by[name]:,.0f}",
                ratio(by[name] / floor) if floor else "",
                ratio(by[name] / by[Zoo.name]) if by.get(Zoo.name) else "",
            ]
        rows.append(row)
    heads = [""]
    for size in by_size:
        heads += [size, "/floor", "/zoo"]
    return table(heads, rows)


def ratio(value: float) -> str:
    return (
        f"{value:.2f}" if 0.1 <= value < 10 else f"{value:,.0f}" if value >= 1 else f"{value:.1g}"
    )


def goal_table(goals: Iterable[Goal]) -> str:
    return table(
        ("goal", "wanted", "found", ""),
        ([goal.what, goal.target, goal.figure(), goal.verdict()] for goal in goals),
    )


def parts(by_size: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    """The same figures by what was measured: get, set, ..."""
    names = list(dict.fromkeys(part for taken in by_size.values() for part in taken))
    return [
        name for name in names if all(isinstance(t.get(name, {}), dict) for t in by_size.values())
    ]


def by_part(by_size: Mapping[str, Any], part: str) -> dict[str, dict[str, float]]:
    """A set has no floor of its own: it is shown beside the one of a get."""
    found = {}
    for size, taken in by_size.items():
        if part in taken:
            floor = taken["get, zipf"].get(floors.UNPACK, 0) * (MANY if str(MANY) in part else 1)
            found[size] = {floors.UNPACK: floor, **taken[part]} if floor else dict(taken[part])
    return found


def sections(results: dict[str, Any]) -> list[tuple[str, str]]:
    """Titles, and what is below them."""
    made = []
    for where, label in (("speed", ""), ("uwsgi", ", inside uWSGI")):
        by_size = results.get(where, {})
        for part in parts(by_size):
            if part not in ("scaling", "bytes of a key"):
                made.append((f"{part}{label}: ns", times(by_part(by_size, part))))
    scaled = dict(results.get("scaling", {}))
    inside = results.get("uwsgi", {}).get("1 KiB", {}).get("scaling", {})
    for mix, by_name in scaled.items():
        shown = dict(by_name)
        for name, taken in inside.get(mix, {}).items():
            shown[f"{name}, inside uWSGI"] = taken
        rows = [
            [name, f"{taken['one']:,.0f}", f"{taken['two']:,.0f}", f"{taken['ratio']:.2f}"]
            for name, taken in shown.items()
        ]
        made.append(
            (f"two processes, 1 KiB, {mix}: a second", table(("", "one", "two", "ratio"), rows))
        )
    if taken := results.get("invalidation"):
        rows = [
            [name, f"{value:,.0f}", ratio(value / taken[HIT])]
            for name, value in sorted(taken.items(), reverse=True)
        ]
        made.append(("invalidate one tag: ns", table(("", "ns", "/hit"), rows)))
    if taken := results.get("memory"):
        rows = [
            [name, f"{value:,.0f}"] for name, value in taken["bytes beside key and value"].items()
        ]
        for_key = results.get("uwsgi", {}).get("100 B", {}).get("bytes of a key")
        if for_key:
            rows.append(["uWSGI cache (beside blocks of the value's size)", f"{for_key:,}"])
        made.append(("bytes for an entry beside key and value", table(("", "B"), rows)))
        grown = taken["worker over hits"]
        rows = [[name, f"{value:,}"] for name, value in grown.items()]
        made.append(("a worker's resident memory, 1 KiB values: bytes", table(("", ""), rows)))
    if taken := results.get("stampede"):
        rows = [
            [name, f"{by['computations']:.0f}", f"{by['ms']:.1f}", f"{by['worst ms']:.1f}"]
            for name, by in taken.items()
        ]
        heads = ("", "computations", "ms until all are served", "worst")
        made.append(("eight processes, one missing key, 50 ms of work", table(heads, rows)))
    if counted := results.get("instructions"):
        made.append(("instructions of a hit of 100 B, tag checked", f"{counted:,.0f}"))
    return made


def text(results: dict[str, Any], goals: list[Goal], pictures: Iterable[str]) -> str:
    lines = ["# Side by side, in one run", "", NOTES]
    lines += [f"![{name.removesuffix('.svg')}]({name})" for name in pictures]
    if results["conditions"]["load average before"][0] > 0.5:
        lines += ["", "The machine was busy with other things when this run began: peers that are"]
        lines += ["asked over a socket look slower then than they are."]
    about = "\n".join(f"{name}: {value}" for name, value in results["conditions"].items())
    lines += ["", "```", about, "```", "", "## goals", "", "```", goal_table(goals), "```"]
    for title, body in sections(results):
        lines += ["", f"## {title}", "", "```", body, "```"]
    if results["missing"]:
        gone = "\n".join(f"{name}: {why}" for name, why in results["missing"].items())
        lines += ["", "## not measured", "", "```", gone, "```"]
    return "\n".join(lines) + "\n"
