"""The process-local level: decoded values, served for as long as nothing has changed.

What a process has decoded it keeps, bounded, and serves again after one load
from the segment that tells whether anything was invalidated, announced or
cleared since (csrc/zoo_local.c). Only entries that nothing but such an event
changes are kept, of queries and functions, and only immutable values: every
caller gets the same object.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Hashable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import chain
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from zoocache.shm import Cache, Segment, _core

MOST_ENTRIES = 200_000

busy: set[Any] = set()
"""While there is anything in it, something in this process is not as usual: a
transaction, a computation whose dependencies are gathered. Then whoever serves
copies must ask what applies to the thread at hand."""

_CLOSED = "no level"  # among the busy: what has changed, settings, say, applies from now on

gate: Any = _core.Gate(busy)
"""`gate.level` is the level to serve from, None where there is none."""

Memo: type[Any] = _core.Memo

_COSTS = 500  # what is remembered of an entry beside its value and its tags

_IMMUTABLE = frozenset(
    [type(None), bool, int, float, str, bytes, Decimal, date, datetime, time, timedelta, UUID]
)
_PLAIN = frozenset([type(None), bool, int, str, bytes])  # of which a memo tells values apart


class Copy(NamedTuple):
    """Where a copy of an entry may be kept, what it is verified by, and what it costs."""

    map: Map
    """Of the segment that the entry is in."""
    entry: bytes
    """The entry's key."""
    deps: bytes
    stamp: int
    expiry: int

    def keep_rows(
        self,
        key: bytes,
        rows: tuple[tuple[Any, ...], ...],
        site: int = 0,
        memo: Any = None,
        *values: Any,
    ) -> None:
        """Serves rows from now on, if they can be shared: to whoever asks the memo for these
        values, if these are plain, else to whoever asks the map for the key."""
        cells = [*chain.from_iterable(rows)]
        # A row with a list in it, of an array, say, is each caller's own.
        if _IMMUTABLE.issuperset(map(type, cells)):
            tuples = len(rows) * sys.getsizeof(()) + 8 * (len(cells) + len(rows))
            size = tuples + sum(map(sys.getsizeof, cells)) + len(key)
            if memo is not None and _PLAIN.issuperset(map(type, values)):
                memo._keep(values, rows, *self, self._with_costs(size), site)
            else:
                self.map.put(key, rows, *self[1:], self._with_costs(size), site)

    def keep_result(self, memo: Any, args: tuple[Any, ...], value: object, site: int = 0) -> None:
        """The same for the result of a function that was called with these arguments."""
        size = size_of(value)
        if size is not None:
            costs = self._with_costs(size + sum(map(sys.getsizeof, args)))
            memo._keep(args, value, *self, costs, site)

    def _with_costs(self, size: int) -> int:
        return size + len(self.deps) + _COSTS


class Map(Protocol):
    """Copies of entries by keys of the caller's. Values are never None."""

    level: Any

    def get(self, key: Hashable, /) -> Any:
        """The value, if a get from the segment would find it fresh; else None."""

    def find(self, key: Hashable, /) -> tuple[Any, bytes, int] | None:
        """The same with the hashes of its dependencies and its stamp."""

    def put(
        self, key: Hashable, value: Any, entry: bytes, deps: bytes, stamp: int, expiry: int,
        size: int, site: int = 0, /,
    ) -> bool:  # fmt: skip
        """Keeps a value that was just found; False if it is not fresh any more.

        `site` is told of its hits (zoocache.sites).
        """


copies: Map | None = None
"""What this process keeps of queries; None: nothing is kept."""

_segment: Segment | None = None


def open_level(cache: Cache | None, size: int) -> None:
    """Keeps copies of this segment's entries from now on, of `size` bytes; None: of none."""
    global copies, _segment
    close_level()
    busy.discard(_CLOSED)
    if cache is None or not size:
        return
    address = int(_core.ffi.cast("uintptr_t", cache.segment.handle))
    level = _core.Level(int(_core.lib.zoo_core()), address, cache.segment, MOST_ENTRIES, size)
    gate.open(level)
    _segment, copies = cache.segment, level.map()


def close_level(*, counted: bool = True) -> None:
    """Keeps and serves nothing until a level is opened, and lets go of the segment.

    `counted=False`: its last hits are another process's to count.
    """
    global copies, _segment
    busy.add(_CLOSED)
    level = gate.level
    gate.open(None)
    copies = _segment = None
    if level is not None:
        level.close(counted)


def copies_of(cache: Cache) -> Map | None:
    """Where copies of the cache's entries are kept; None: nowhere."""
    there = copies
    return there if cache.segment is _segment else None


def count_hits() -> None:
    """Puts the hits of this process into the segment's statistics, where they come in bunches."""
    if gate.level is not None:
        gate.level.count()


def memo(function: Callable[..., Any]) -> Any:
    """A callable around the function that serves copies of its results, given to `_keep`."""
    return Memo(function, gate, types.MethodType)


def size_of(value: object) -> int | None:
    """The bytes that a value takes; None if it, or anything in it, can be changed."""
    kind = type(value)
    size = sys.getsizeof(value)
    if kind is tuple or kind is frozenset:
        for one in value:  # type: ignore[attr-defined]
            inner = size_of(one)
            if inner is None:
                return None
            size += inner
        return size
    return size if kind in _IMMUTABLE or isinstance(value, Enum) else None
