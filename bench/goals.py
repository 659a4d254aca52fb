"""What zoocache is to reach, each line judged by the figures of one run.

Gets are judged by keys picked by zipf(1.0). Against uWSGI's cache, by what
zoocache takes inside uWSGI.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import floors
from invalidation import HIT
from peers import Lmdb, Pylibmc, RedisPy, Zoo, ZooTagged
from scaling import MIXED, READS
from stampede import PROCESSES, ZOO
from uwsgi_cache import Uwsgi

GET = "get, zipf"
SET = "set"
SMALL, LARGE = ("100 B", "1 KiB"), ("10 KiB", "100 KiB")


@dataclass
class Goal:
    what: str
    target: str
    found: float | None = None
    reached: bool | None = None
    """None: not measured in this run."""
    unit: str = "x"

    def verdict(self) -> str:
        return {None: "not measured", True: "reached", False: "missed"}[self.reached]

    def figure(self) -> str:
        if self.found is None:
            return "-"
        digits = 2 if abs(self.found) < 10 else 1
        return f"{self.found:,.{digits}f}{self.unit}"


def at_most(what: str, limit: float, find: Callable[[], float | None], unit: str = "x") -> Goal:
    return _judge(Goal(what, f"<= {limit:g}{unit}", unit=unit), find, lambda x: x <= limit)


def at_least(what: str, limit: float, find: Callable[[], float | None], unit: str = "x") -> Goal:
    return _judge(Goal(what, f">= {limit:g}{unit}", unit=unit), find, lambda x: x >= limit)


def _judge(goal: Goal, find: Callable[[], float | None], holds: Callable[[float], bool]) -> Goal:
    try:
        goal.found = find()
    except (KeyError, TypeError):  # a peer or a whole part is missing
        return goal
    if goal.found is not None:
        goal.reached = holds(goal.found)
    return goal


def judge(results: dict[str, Any]) -> list[Goal]:
    return list(_goals(results))


def _goals(results: dict[str, Any]) -> Iterator[Goal]:
    speed, uwsgi = results.get("speed", {}), results.get("uwsgi", {})

    def ratio(of: str, to: str, size: str, part: str = GET, where: Any = speed) -> Any:
        return lambda: where[size][part][of] / where[size][part][to]

    for size in SMALL:
        for peer in (Zoo, ZooTagged):
            yield at_most(
                f"hit, {size}: {peer.name} to empty call + unpack",
                1.3, ratio(peer.name, floors.UNPACK, size),
            )  # fmt: skip
        yield at_least(f"hit, {size}: py-lmdb to zoocache", 1.3, ratio(Lmdb.name, Zoo.name, size))
        yield at_most(
            f"hit, {size}: zoocache to uWSGI's cache",
            1.2, ratio(Zoo.name, Uwsgi.name, size, where=uwsgi),
        )  # fmt: skip
        yield at_least(f"hit, {size}: pylibmc to zoocache", 25, ratio(Pylibmc.name, Zoo.name, size))
        yield at_least(
            f"hit, {size}: redis-py to zoocache", 70, ratio(RedisPy.name, Zoo.name, size)
        )
    for size in LARGE:
        yield at_least(f"hit, {size}: py-lmdb to zoocache", 1, ratio(Lmdb.name, Zoo.name, size))
        yield at_least(
            f"hit, {size}: uWSGI's cache to zoocache",
            1, ratio(Uwsgi.name, Zoo.name, size, where=uwsgi),
        )  # fmt: skip
    yield at_most(
        "set, 1 KiB: zoocache to uWSGI's cache",
        2, ratio(Zoo.name, Uwsgi.name, "1 KiB", SET, uwsgi),
    )  # fmt: skip
    yield at_least(
        "set, 1 KiB: pylibmc to zoocache", 12, ratio(Pylibmc.name, Zoo.name, "1 KiB", SET)
    )
    yield at_most("C-level hit, 100 B: instructions", 250, lambda: results["instructions"], unit="")
    for mix, limit in ((READS, 1.9), (MIXED, 1.6)):
        yield at_least(
            f"two processes to one, {mix}",
            limit, lambda mix=mix: results["scaling"][mix][Zoo.name]["ratio"],
        )  # fmt: skip
    taken = results.get("invalidation", {})
    yield at_most(
        "invalidate, 1 M to 1 k entries: apart by",
        10,
        lambda: 100 * abs(taken["invalidate, 1 M entries"] / taken["invalidate, 1 k entries"] - 1),
        unit=" %",
    )
    yield at_most(
        "invalidate to a hit, 1 M entries", 2, lambda: taken["invalidate, 1 M entries"] / taken[HIT]
    )
    memory = results.get("memory", {})
    for size in SMALL:
        yield at_most(
            f"memory: bytes per entry of {size} beside key and value, with ENTRY_SIZE",
            64, lambda: memory["bytes beside key and value"][f"zoocache, {size}, ENTRY_SIZE"],  # noqa: B023
            unit=" B",
        )  # fmt: skip
    # Less than a page for 1,000 hits is noise of the interpreter, not growth with hits.
    yield at_most(
        "memory: growth of a worker over 1 M hits",
        256, lambda: memory["worker over hits"]["grown"] / 1024, unit=" KiB",
    )  # fmt: skip
    herd = results.get("stampede", {})
    yield at_most(
        f"stampede of {PROCESSES}: computations", 1, lambda: herd[ZOO]["computations"], unit=""
    )
    yield at_most(
        f"stampede of {PROCESSES}: all served within", 60, lambda: herd[ZOO]["ms"], unit=" ms"
    )
