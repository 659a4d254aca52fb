"""Why a query was served from the cache, or was not: for people, in the shell and in tests."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from zoocache import local, notices, sites, store, telling
from zoocache.contrib.django import tags as orm_tags
from zoocache.shm import Cache
from zoocache.shm.events import Event, events, hash_of
from zoocache.shm.explain import EVERYTHING, Entry, State
from zoocache.telling import told_event, verdict

__all__ = [
    "WatchedRead",
    "is_watched",
    "note_read",
    "note_refusal",
    "told",
    "watching",
    "why",
    "why_tag",
]


@dataclass
class WatchedRead:
    """One SELECT, and what the cache had for it before it ran."""

    compiler: Any = field(repr=False)
    sql: str = ""
    params: Any = ()
    entry: Entry | None = None
    """None for a query that is not cached."""
    tags: frozenset[str] = frozenset()
    """What it depends on, its rows aside."""
    refused: str = ""
    """Why it is not cached."""
    seconds: float = 0.0
    """How long it took, with its query where there was one."""
    place: str = ""
    """Where it was asked for: see zoocache.sites."""

    @property
    def kind(self) -> str:
        """notices.HIT, MISS or BYPASS."""
        if self.refused or self.entry is None:
            return notices.BYPASS
        return notices.HIT if self.entry.state is State.FRESH else notices.MISS

    @property
    def model(self) -> Any:
        return self.compiler.query.model


_watched: ContextVar[list[WatchedRead] | None] = ContextVar("zoocache_watched", default=None)


@contextmanager
def watching() -> Iterator[list[WatchedRead]]:
    """A list that gets all cached reads of this thread or task, as they come."""
    reads: list[WatchedRead] = []
    token = _watched.set(reads)
    watcher = object()
    local.busy.add(watcher)  # they shall come by
    try:
        yield reads
    finally:
        local.busy.discard(watcher)
        _watched.reset(token)


def is_watched() -> bool:
    return _watched.get() is not None


def note_read(compiler: Any, sql: str, params: Any, entry: Entry, tags: set[str] | None) -> None:
    reads = _watched.get()
    if reads is not None:
        reads.append(WatchedRead(compiler, sql, params, entry, frozenset(tags or ())))


def note_refusal(compiler: Any, reason: str) -> None:
    reads = _watched.get()
    if reads is None:
        return
    if not (reads and reads[-1].compiler is compiler):
        reads.append(WatchedRead(compiler))
    reads[-1].refused = reason


@contextmanager
def timing(compiler: Any) -> Iterator[None]:
    """Takes the time of a read that is watched."""
    began = time.perf_counter()
    try:
        yield
    finally:
        for read in reversed(_watched.get() or ()):
            if read.compiler is compiler:
                read.seconds, read.place = time.perf_counter() - began, sites.place()
                break


def why(work: Any) -> str:
    """Evaluates a queryset, or calls a function, and tells of each cached read in it.

    What is told of an entry is what was there before the evaluation, which
    fills what is missing, as ever.
    """
    with watching() as reads:
        # To look at a queryset's own `query` would make it another one.
        work() if callable(work) and not hasattr(type(work), "query") else list(work)
    if not reads:
        return "No cached query ran: use Model.cached, cached(...) or .zoocache()."
    return "\n\n".join(told(read) for read in reads)


def why_tag(tag: str) -> str:
    """Tells when what depends on a tag, "Product:42" say, was invalidated, by whom and why."""
    return telling.why_tag(tag, orm_tags.told)


def told(read: WatchedRead) -> str:
    """A read in words: a hit or why not, the SQL, and what it depends on."""
    lines = [f"{read.model._meta.label}: {verdict_of(read)}"]
    if read.sql:
        lines.append(f"  SQL: {read.sql}  {tuple(read.params)!r}")
    if read.tags:
        lines.append("  depends on: " + ", ".join(map(orm_tags.told, sorted(read.tags))))
    target = store.cache()
    if target is not None and read.entry is not None and read.entry.state is State.STALE:
        lines += causes_of(target, read)
    return "\n".join(lines)


def verdict_of(read: WatchedRead) -> str:
    """Whether it was a hit, or why not, in words."""
    if read.refused:
        return f"not cached, because {read.refused}"
    if read.entry is None:
        return "not cached"
    state = read.entry.state
    if state is State.FRESH:
        expires = read.entry.expires
        ttl = "" if expires is None else f", for {expires - time.time():.0f} s more"
        return f"a hit of {read.entry.size} bytes{ttl}"
    return verdict(state)


def causes_of(target: Cache, read: WatchedRead) -> Iterator[str]:
    """When and by whom the tags of a stale entry were dropped, a line for each."""
    entry = read.entry
    assert entry is not None
    names = {hash_of(target, tag): orm_tags.told(tag) for tag in read.tags}
    names[EVERYTHING] = "everything"
    newest: dict[bytes, Event] = {}
    for event in events(target):
        if event.tag in entry.bumped and event.clock > entry.stamp:
            newest[event.tag] = event
    for tag in entry.bumped:
        if tag in newest:
            yield f"  {told_event(newest[tag], names.get(tag, newest[tag].text))}"
        else:
            name = names.get(tag, tag.hex())
            yield f"  {name}: longer ago than the ring of events remembers, or made coarser"
