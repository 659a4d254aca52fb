"""Tells who wants to know of each read through the cache, and of what this process invalidates.

Nobody listens as a rule, and then nothing is told. While somebody listens to
reads, this process is *busy* (zoocache.local): no read is served past the code
that tells of it, which costs each some microseconds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from zoocache import local
from zoocache.sites import Fill, Label

logger = logging.getLogger("zoocache")

HIT, MISS, BYPASS = "hit", "miss", "bypass"


class Read(NamedTuple):
    """One read, when it was over."""

    kind: str
    """HIT, MISS, or BYPASS for one that went around the cache."""
    site: Label
    """Who reads: a model or a function."""
    key: bytes
    """The entry's; empty for a bypass."""
    began: float
    """time.perf_counter() then."""
    seconds: float
    """A miss's with all that it took to compute and to store the value."""
    reason: str = ""
    """Of a bypass, and of a miss that must not be stored."""
    stored: bool = False
    size: int = 0
    """Bytes that were stored."""


class Drop(NamedTuple):
    """One invalidation by this process."""

    tags: frozenset[str] | None
    """None: everything."""
    cause: str
    """"invalidate", "clear" or "commit"."""


reads: list[Callable[[Read], None]] = []
"""Who listens to reads: to be looked at only, before there is anything to tell."""
drops: list[Callable[[Drop], None]] = []


def listen_to_reads(listener: Callable[[Read], None]) -> None:
    """Calls it with each read of this process from now on; one that raises, no more."""
    if listener not in reads:
        reads.append(listener)
    local.busy.add(listener)


def ignore_reads(listener: Callable[[Read], None]) -> None:
    """Calls it no more."""
    if listener in reads:
        reads.remove(listener)
    local.busy.discard(listener)


def listen_to_drops(listener: Callable[[Drop], None]) -> None:
    """Calls it with each invalidation by this process from now on; one that raises, no more."""
    if listener not in drops:
        drops.append(listener)


def ignore_drops(listener: Callable[[Drop], None]) -> None:
    """Calls it no more."""
    if listener in drops:
        drops.remove(listener)


def clock() -> float:
    """When something began, for the functions below; 0 where nobody wants to know."""
    return time.perf_counter() if reads else 0.0


def hit(site: Label, key: bytes, began: float) -> None:
    if reads:
        _tell(Read(HIT, site, key, began, _since(began)))


def miss(site: Label, key: bytes, fill: Fill, reason: str = "") -> None:
    if reads:
        began = time.perf_counter() - fill.seconds
        _tell(Read(MISS, site, key, began, fill.seconds, reason, fill.stored, fill.size))


def bypass(site: Label, reason: str, began: float) -> None:
    if reads:
        _tell(Read(BYPASS, site, b"", began, _since(began), reason))


def dropped(tags: Iterable[str] | None, cause: str) -> None:
    """Something was invalidated; None: everything."""
    if drops:
        drop = Drop(None if tags is None else frozenset(tags), cause)
        for listener in tuple(drops):
            try:
                listener(drop)
            except Exception:
                ignore_drops(listener)
                _log_broken(listener)


def _since(began: float) -> float:
    return time.perf_counter() - began if began else 0.0


def _tell(read: Read) -> None:
    for listener in tuple(reads):
        try:
            listener(read)
        except Exception:
            ignore_reads(listener)
            _log_broken(listener)


def _log_broken(listener: object) -> None:
    logger.exception("what listens to the cache raised, and is told no more: %r", listener)


@contextmanager
def collecting() -> Iterator[list[Read]]:
    """A list that gets all reads of this thread or task, as they come."""
    found: list[Read] = []
    token = _collected.set(found)

    def collect(read: Read) -> None:
        if _collected.get() is found:
            found.append(read)

    listen_to_reads(collect)  # one for each: threads begin and end as they like
    try:
        yield found
    finally:
        _collected.reset(token)
        ignore_reads(collect)


_collected: ContextVar[list[Read] | None] = ContextVar("zoocache_collected", default=None)
