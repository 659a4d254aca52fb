"""Segments by name, for the cache backend: opened at the first use, and again when replaced."""

from __future__ import annotations

import os
import threading
import time
from typing import Any, NamedTuple, Protocol

from zoocache import config, isolation, store
from zoocache.exceptions import SegmentMissingError, ZooCacheError
from zoocache.shm import Cache, Segment
from zoocache.shm.segment import retirement_listeners


class Place(Protocol):
    """Where a backend's entries are: `zoocache.store`, or a segment of another name."""

    def cache(self) -> Cache | None:
        """The cache to use; None if zoocache is off, or if it cannot be opened."""

    def writer(self) -> Cache | None:
        """The cache to remove from, even where zoocache is off; None if there is no segment."""


class _State(NamedTuple):
    generation: int
    cache: Cache | None
    retry_at: float


class NamedPlace:
    """A segment that LOCATION names, opened as `zoocache.store` opens the process's own."""

    def __init__(self, name: str, size: int | None) -> None:
        self.name = name
        self.size = size
        self.state: _State | None = None

    def cache(self) -> Cache | None:
        state = self.state
        if (
            state is None
            or state.generation != config.generation()
            or (state.cache is None and time.monotonic() >= state.retry_at)
        ):
            state = self._open()
        return state.cache

    def _open(self) -> _State:
        with _lock:
            generation = config.generation()
            opened: Cache | None = None
            try:
                settings = config.resolve()
                name = isolation.name_of(self.name)
                if settings.enabled and settings.name == name:
                    opened = store.cache()  # one mapping of it is enough
                elif settings.enabled:
                    size = isolation.size_of(self.size or settings.size)
                    called = settings.segment_called(name)
                    opened = Cache(Segment(called, size, entry_size=settings.entry_size))
            except ZooCacheError as error:
                store.log_once(
                    f"the cache at {self.name} is off, everything is a miss: {error}",
                    about=(self.name, generation, type(error)),
                )
            retry_at = time.monotonic() + store.RETRY_SECONDS
            self.state = state = _State(generation, opened, retry_at)
            return state

    def writer(self) -> Cache | None:
        opened = self.cache()
        if opened is not None:
            return opened
        try:
            return Cache(Segment(config.segment_name(isolation.name_of(self.name))))
        except SegmentMissingError:
            return None


_lock = threading.RLock()  # a signal handler may come back here
_places: dict[str, NamedPlace] = {}  # Django makes a backend for each thread and each task


def find(location: Any, size: int | None) -> Place:
    """The place that LOCATION names; ConfigError if it cannot name one."""
    if not location:
        return store
    name = config._check_name(location, "LOCATION")
    place = _places.setdefault(name, NamedPlace(name, size))
    place.size = place.size or size
    return place


def _forget(segment: Segment) -> None:
    """A segment was replaced or removed: the next operation opens its name again."""
    for place in tuple(_places.values()):
        state = place.state
        if state is not None and state.cache is not None and state.cache.segment is segment:
            place.state = None


def _after_fork() -> None:
    # As in zoocache.store: the child may be another user, and the lock's owner is not in it.
    global _lock
    _lock = threading.RLock()
    for place in _places.values():
        place.state = None


retirement_listeners.append(_forget)
os.register_at_fork(after_in_child=_after_fork)
