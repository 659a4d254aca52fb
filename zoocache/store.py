"""The one cache of this process, and what frameworks add to it.

Nothing is opened at import. The first read opens the segment that the settings
name, creating it if need be. An invalidation attaches and never creates: where
there is no segment there is nothing to invalidate. Because other processes may
be serving from a segment that this one was told not to use, `enabled=False`
stops reads and fills, not invalidations.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from zoocache import config, local, notices, sites
from zoocache.exceptions import (
    SegmentBusyError,
    SegmentFormatError,
    SegmentMissingError,
    SegmentRetiredError,
    TagError,
    ZooCacheError,
)
from zoocache.shm import Cache, Segment, clear_foreign, path_of, retirement_listeners

logger = logging.getLogger("zoocache")

# How long a process whose segment cannot be opened goes without asking again.
RETRY_SECONDS = 5.0

MOST_SUCCESSORS = 16


class Guard(NamedTuple):
    """What a framework knows about the data that this thread can read right now."""

    stamp: int | None
    """The stamp of the oldest open snapshot, or None where there is none."""
    clean: bool
    """False while the thread may read its own uncommitted writes."""
    namespace: bytes = b""
    """What keeps its entries from those of others: a tenant, a test that is rolled back."""
    began: int | None = None
    """The stamp of the start of the work under way, as far as what it loaded may be handed on."""
    usual: bool = False
    """Nothing of this applies: what is found may be served again without asking, until somebody
    is busy (zoocache.local)."""


@dataclass(frozen=True, slots=True)
class _State:
    generation: int
    cache: Cache | None
    settings: config.Settings
    retry_at: float

    def may_retry(self) -> bool:
        return self.settings.enabled and time.monotonic() >= self.retry_at


class Framework(Protocol):
    """What a framework adds to invalidations and to fills."""

    def expand(self, tag: str) -> Iterable[str]:
        """Its own tags that a user's tag means when it is invalidated."""

    def depend(self, tag: str) -> Iterable[str]:
        """Its own tags that a user's tag means as a dependency."""

    def observe(self, tags: Iterable[str] | None) -> None:
        """Is told what the user invalidated; None: everything."""

    def guard(self) -> Guard:
        """What this thread's open transactions allow."""

    def allows_local(self) -> bool:
        """May copies be served in this process, by its settings?"""


_lock = threading.RLock()  # a signal handler may come back here
_state: _State | None = None
_logged: set[object] = set()
_frameworks: list[Framework] = []


def cache() -> Cache | None:
    """The cache to read from and fill; None if it is disabled or cannot be opened.

    A segment that cannot be opened is logged once and asked for again after a
    few seconds: a web request goes on without it.
    """
    state = _state
    if (
        state is None
        or state.generation != config.generation()
        or (state.cache is None and state.may_retry())
    ):
        state = _refresh()
    return state.cache


def settings() -> config.Settings:
    """The settings in force for `cache()`."""
    state = _state
    if state is None or state.generation != config.generation():
        state = _refresh()
    return state.settings


def _refresh() -> _State:
    global _state
    with _lock:
        generation = config.generation()
        opened: Cache | None = None
        resolved = config.Settings(enabled=False)
        try:
            resolved = config.resolve()
            if resolved.enabled:
                opened = Cache(
                    Segment(resolved.segment, resolved.size, entry_size=resolved.entry_size)
                )
                _note_other_size(opened.segment, resolved)
        except ZooCacheError as error:
            # Not by its text: that may show a figure which is another at each try.
            about = (generation, type(error))
            log_once(f"the cache is off, everything is computed anew: {error}", about=about)
        allowed = all(framework.allows_local() for framework in _frameworks)
        local.open_level(opened, resolved.local if allowed else 0)
        if config.generation() != generation:  # another thread has changed it meanwhile
            local.close_level()
        _state = _State(generation, opened, resolved, time.monotonic() + RETRY_SECONDS)
        return _state


def _note_other_size(segment: Segment, wanted: config.Settings) -> None:
    if abs(segment.size - wanted.size) >= 65536:
        logger.warning(
            "the segment %s has %d bytes, not the configured %d: it was made with another "
            "setting. It keeps its size until it is removed while nobody uses it.",
            path_of(segment.name), segment.size, wanted.size,
        )  # fmt: skip
    if segment.entry_size != wanted.entry_size:
        logger.warning(
            "the index of the segment %s is for entries of %d bytes, not of the configured %d "
            "(0: not known): it was made with another setting, and keeps it until it is replaced.",
            path_of(segment.name), segment.entry_size, wanted.entry_size,
        )  # fmt: skip


def _forget(segment: Segment) -> None:
    """A segment was replaced or removed: the next operation opens its name again."""
    global _state
    state = _state
    if state is not None and state.cache is not None and state.cache.segment is segment:
        _state = None
        local.close_level()


retirement_listeners.append(_forget)
config.listeners.append(local.close_level)


def writer() -> Cache | None:
    """The cache to invalidate in; None if there is no segment: it is never created here.

    Needs no more than the segment's name and group: a setting that keeps this process
    from reading must not keep others from being told. Raises SegmentError or
    ConfigError.
    """
    global _state
    state = _state
    generation = config.generation()
    if state is not None and state.cache is not None and state.generation == generation:
        return state.cache
    try:
        attached = Cache(Segment(config.segment_name()))
    except SegmentMissingError:
        return None
    if state is None or state.generation != generation:
        cache()  # the next invalidation need not attach again
    return attached


def _after_fork() -> None:
    # The child may go on as another user, whose segment is another one; and a
    # thread that held the lock is not there any more.
    global _state, _lock
    _state, _lock = None, threading.RLock()
    _logged.clear()
    local.close_level(counted=False)


os.register_at_fork(after_in_child=_after_fork)


def log_once(message: str, *, about: object = None) -> None:
    """Logs an error the first time that this process sees it: its text, or what it is about."""
    if (about or message) not in _logged:
        _logged.add(about or message)
        name = _state.settings.name if _state is not None else None
        logger.error(message, extra={"zoocache_segment": name})


def log_too_large(what: str, target: Cache) -> None:
    """Logs once that something is over the largest entry; its caller has it all the same."""
    log_once(
        f"{what} is not cached: it has more than {target.segment.max_record} bytes, the most that "
        f"fits the segment (enlarge it: ZOOCACHE_SIZE, zoocache.shm.resize), or over 4,095 tags"
    )


def invalidate(*tags: str) -> None:
    """Drops, in every process of the host, all that depends on one of the tags or on a tag below.

    When it returns, no read that starts later returns a value whose computation
    began before the call. Raises TagError for a tag that is empty or has an
    empty part; SegmentError if the segment exists and cannot be reached.
    """
    for tag in tags:
        if not isinstance(tag, str) or "" in tag.split(":") or "\0" in tag:
            raise TagError(
                f"{tag!r} is not a tag: it takes one or more non-empty parts joined by ':', "
                f"like 'Product:42', and no NUL character"
            )
    meant = dict.fromkeys(tags)
    for tag in tags:
        meant.update(dict.fromkeys(expanded(tag)))
    bump(meant)
    for framework in _frameworks:
        framework.observe(meant)
    notices.dropped(tags, "invalidate")


def expanded(tag: str) -> set[str]:
    """What frameworks take a tag for when it is invalidated."""
    return {meant for framework in _frameworks for meant in framework.expand(tag)}


def bump(tags: Iterable[str]) -> None:
    """Invalidates tags as they are, without what frameworks make of them."""
    wanted = tuple(tags)
    _in_every_successor(lambda target: target.invalidate(*wanted))


def bump_everything() -> None:
    """Invalidates every entry of the segment."""
    _in_every_successor(lambda target: target.clear())


def _in_every_successor(drop: Callable[[Cache], None]) -> None:
    """Invalidates, and again in the segment that has replaced the first meanwhile."""
    for _ in range(MOST_SUCCESSORS):
        try:
            target = writer()
        except SegmentFormatError:
            # A process of a newer version has replaced the segment, or one of an older
            # version has it, and only another user of the group can replace it. This
            # one cannot read it, but it must not leave stale rows in it.
            if clear_foreign(config.segment_name()):
                return None
            raise
        if target is None:
            return None
        try:
            return drop(target)
        except SegmentRetiredError:
            continue
    raise SegmentBusyError("the segment is replaced again and again: stop whoever does it")


def clear() -> None:
    """Drops every entry of the segment, in every process."""
    bump_everything()
    for framework in _frameworks:
        framework.observe(None)
    notices.dropped(None, "clear")


def stats() -> dict[str, int]:
    """Counters of the whole host since its segment was made; empty where there is no segment."""
    target = writer()
    local.count_hits()
    sites.flush(target)
    return {} if target is None else target.stats()


def guard() -> Guard:
    """The strictest of what the registered frameworks say."""
    answers = [framework.guard() for framework in _frameworks]
    stamps = [answer.stamp for answer in answers if answer.stamp is not None]
    return Guard(
        min(stamps, default=None),
        all(answer.clean for answer in answers),
        b"".join(answer.namespace for answer in answers),
        min((answer.began for answer in answers if answer.began is not None), default=None),
        all(answer.usual for answer in answers),
    )


def meaning(tags: Iterable[str]) -> set[str]:
    """The tags themselves, and what frameworks take them for as dependencies."""
    meant = set(tags)
    for framework in _frameworks:
        for tag in tuple(meant):
            meant.update(framework.depend(tag))
    return meant


def register_framework(framework: Framework) -> None:
    """Lets a framework take part from now on."""
    _frameworks.append(framework)
    config.changed()


def configure(
    *,
    name: str | None = None,
    size: int | str | None = None,
    entry_size: int | str | None = None,
    ttl: float | config.Unset | None = config.UNSET,
    enabled: bool | None = None,
    local: int | str | None = None,
    group: int | str | config.Unset | None = config.UNSET,
) -> None:
    """Sets what is given, over a framework's settings and the environment.

    `name` of the segment; `size` in bytes or as "64MiB", and `entry_size`, what an entry
    takes on average, for a segment that does not exist yet; `ttl` in seconds for entries
    that set none (None: no expiry); `enabled=False` makes everything a pass-through;
    `local`, in bytes, is what this process may keep of decoded values, 0 for nothing;
    `group`, by name or number, shares the segment (None: it is this user's alone). Raises
    ConfigError.
    """
    config.set_overrides(
        name=name, size=size, entry_size=entry_size, ttl=ttl, enabled=enabled, local=local,
        group=group,
    )  # fmt: skip
