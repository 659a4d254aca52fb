"""How a segment is doing, for people: the map of its logs, what is asked for, who is there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from zoocache.shm._core import ffi, lib
from zoocache.shm.cache import STAMPS_PER_SECOND, Cache

CELLS: int = lib.ZOO_CELLS
"""Into so many cells of equal size the map of a log is divided."""

LOGS = ("probation", "main")
_ASKED: int = lib.ZOO_ASKED
MOST_OWNERS: int = lib.ZOO_MOST_PIDS
"""So many processes can announce commits and lead computations in one segment."""


class Log(NamedTuple):
    """One of the two circular logs."""

    size: int
    """In bytes."""
    written: int
    """Bytes ever written to it."""

    @property
    def head(self) -> float:
        """Where the next record goes, as a share of the size."""
        return self.written % self.size / self.size


@dataclass(frozen=True)
class Shape:
    """The parts of a segment, and where its clocks stand."""

    buckets: int
    """Of the index, of 8 words each."""
    tag_sets: int
    """Of the tag table, of 7 tags each."""
    ring: int
    """Events that are kept."""
    probation: Log
    main: Log
    clock: int
    root: int
    """The clock of the last clear, or of the segment's making."""
    active_lanes: int
    """Commits under way or in quarantine."""
    miss_until: float
    """Seconds of CLOCK_BOOTTIME before which nobody hits; 0: there is no such time."""

    @property
    def age(self) -> float:
        """Seconds since the segment was made, or cleared."""
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - self.root / STAMPS_PER_SECOND)


@dataclass
class Census:
    """Entries counted in all buckets of the index, or extrapolated from `buckets` of them.

    Numbers of words and entries, and bytes of records; the maps have one number
    of bytes for each of the CELLS cells of a log.
    """

    share: float = 1.0
    """Of the index, that was looked at."""
    crowded: int = 0
    """Buckets without an empty word: what comes next takes the place of another."""
    tentative: int = 0
    lost: int = 0
    """Words whose record the log has run over: harmless."""
    fresh: int = 0
    stale: int = 0
    expired: int = 0
    pending: int = 0
    fresh_bytes: int = 0
    other_bytes: int = 0
    fresh_in: dict[str, list[int]] = field(default_factory=dict)
    other_in: dict[str, list[int]] = field(default_factory=dict)

    @property
    def entries(self) -> int:
        return self.fresh + self.stale + self.expired + self.pending


def shape_of(cache: Cache) -> Shape:
    """The parts of the segment, and where its clocks stand now."""
    found = ffi.new("zoo_shape *")
    lib.zoo_look(cache.segment.handle, found)
    probation, main = (Log(int(found.log_size[i]), int(found.log_written[i])) for i in range(2))
    return Shape(
        buckets=int(found.buckets),
        tag_sets=int(found.tag_sets),
        ring=int(found.ring),
        probation=probation,
        main=main,
        clock=int(found.clock),
        root=int(found.root),
        active_lanes=int(found.active_lanes).bit_count(),
        miss_until=found.miss_until_ms / 1000,
    )


def census(cache: Cache, most_buckets: int = 1 << 16, turn: int = 0) -> Census:
    """Counts the entries, while others go on.

    Of more than `most_buckets` buckets only every so manieth is looked at, from
    another one on in each `turn`, and the counts are multiplied.
    """
    buckets = shape_of(cache).buckets
    step = -(-buckets // most_buckets)
    found = ffi.new("zoo_census *")
    lib.zoo_count_entries(cache.segment.handle, turn % step, step, found)
    share = found.buckets / buckets

    def whole(counted: int) -> int:
        return int(counted / share)

    def drawn(cells: object) -> dict[str, list[int]]:
        return {log: [whole(n) for n in cells[i]] for i, log in enumerate(LOGS)}  # type: ignore[index]

    counted = ("crowded", "tentative", "lost", "fresh", "stale", "expired", "pending")
    numbers = {
        name: whole(getattr(found, name)) for name in (*counted, "fresh_bytes", "other_bytes")
    }
    return Census(
        share, fresh_in=drawn(found.fresh_in), other_in=drawn(found.other_in), **numbers
    )  # fmt: skip


class Asked:
    """Samples of the keys that processes ask for, hits and misses alike.

    Each process leaves one in some 48 gets, over the one before: who looks more
    often sees more of them. What is seen does not depend on the key, so that its
    share of the samples is its share of the gets.
    """

    def __init__(self, cache: Cache) -> None:
        self._handle = cache.segment.handle
        self._samples = ffi.new("zoo_sample[]", _ASKED)
        self._numbers = [0] * _ASKED
        for _ in self.new():
            pass  # whoever left these may be long gone

    def new(self) -> Iterator[int]:
        """Hashes of keys, one for each sample that was left since the last call."""
        lib.zoo_asked(self._handle, self._samples)
        for i, sample in enumerate(self._samples):
            number = int(sample.number)
            if number != self._numbers[i]:
                self._numbers[i] = number
                yield int(sample.key_hash)

    def key_of(self, hashed: int) -> bytes | None:
        """The key with that hash; None if it is not in the index."""
        buffer = ffi.new("char[]", lib.ZOO_MAX_KEY)
        length = lib.zoo_key_asked(self._handle, hashed, buffer)
        return bytes(ffi.buffer(buffer, length)) if length else None


def owner_pids(cache: Cache) -> list[int]:
    """The living processes that have announced commits or led computations in the segment.

    0 for one whose pid namespace is not to be seen from here.
    """
    pids = ffi.new("int32_t[]", MOST_OWNERS)
    n = lib.zoo_owner_pids(cache.segment.handle, pids, MOST_OWNERS)
    return [int(pid) for pid in pids[0:n]]
