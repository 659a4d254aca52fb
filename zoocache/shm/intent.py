"""Intents: tags announced before a commit, so that nobody is served the old value after it."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import NamedTuple

from zoocache.shm._core import ffi, lib
from zoocache.shm.cache import Cache, status_error

MOST_TAGS: int = lib.ZOO_LANE_TAGS
"""An intent of more tags announces everything."""

_MOST_QUARANTINED: int = lib.ZOO_LANES
_TICKET = ffi.typeof("uint64_t *")


class End(enum.IntEnum):
    """What became of an announced commit."""

    COMMITTED = lib.ZOO_COMMITTED
    ROLLED_BACK = lib.ZOO_ROLLED_BACK
    """For certain: the tags are not invalidated."""
    UNKNOWN = lib.ZOO_UNKNOWN
    """It may still take effect: the tags stay announced for the intent's quarantine."""


class Intent:
    """One announcement: what depends on a tag of it misses until `settle`.

    `tags` None announces everything. `session` names the database session, at
    most 63 bytes of it, for whoever must find out whether it is gone;
    `quarantine` is how long, in seconds, the announcement outlives a process
    that dies before it settles, or a commit whose outcome is unknown.
    """

    __slots__ = ("_handle", "_tags", "_ticket")

    def __init__(self, cache: Cache) -> None:
        self._handle = cache.segment.handle
        self._tags = b""  # for the ring of events: a lane has hashes only
        self._ticket = ffi.new(_TICKET)

    def announce(self, tags: Iterable[str] | None, session: str, quarantine: float) -> bool:
        """False if the segment was retired: its successor must be told, too.

        The object exists before, so that an asynchronous exception cannot come
        between the announcement and the only one who can settle it.
        """
        packed = b"" if tags is None else "\0".join(tags).encode("utf-8", "surrogatepass")
        self._tags = packed
        status = lib.zoo_announce(
            self._handle,
            ffi.NULL if tags is None else packed,
            len(packed),
            session.encode(),
            int(quarantine * 1000),
            self._ticket,
        )
        if status < 0:
            raise status_error(status, tags)
        return bool(status != lib.ZOO_RETIRED)

    def settle(self, end: End) -> bool:
        """Ends the announcement; False if its tags must be invalidated otherwise.

        That is so where no lane was free for it, where another process took it
        over because this one seemed dead, and in a segment that was retired.
        """
        ticket, tags = self._ticket[0], self._tags
        if not ticket:
            return False
        status = lib.zoo_settle_named(self._handle, ticket, end, tags, len(tags))
        return bool(status == lib.ZOO_OK)


class Quarantined(NamedTuple):
    """An announcement whose commit may still take effect though nobody waits for it."""

    ticket: int
    until: float
    """Seconds of CLOCK_BOOTTIME."""
    session: str


def reap(cache: Cache) -> int:
    """Takes over the announcements of dead processes; returns how many changed."""
    return int(lib.zoo_reap(cache.segment.handle))


def quarantined(cache: Cache) -> list[Quarantined]:
    """The announcements in quarantine."""
    found = ffi.new("zoo_quarantine[]", _MOST_QUARANTINED)
    n = lib.zoo_quarantined(cache.segment.handle, found, _MOST_QUARANTINED)
    return [
        Quarantined(
            one.ticket, one.until_ms / 1000, ffi.string(one.session).decode(errors="replace")
        )
        for one in found[0:n]
    ]


def resolve(cache: Cache, ticket: int) -> bool:
    """Ends a quarantine, since its session is known to be gone; False if it is over already."""
    return bool(lib.zoo_resolve(cache.segment.handle, ticket) == lib.ZOO_OK)
