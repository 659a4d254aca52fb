"""Intents: tags announced before a commit, so that nobody is served the old value after it."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from zoocache.shm._core import ffi, lib

if TYPE_CHECKING:
    from zoocache.shm.cache import Cache

MOST_TAGS: int = lib.ZOO_LANE_TAGS
"""An intent of more tags announces everything."""

_MOST_QUARANTINED: int = lib.ZOO_LANES


class End(enum.IntEnum):
    """What became of an announced commit."""

    COMMITTED = lib.ZOO_COMMITTED
    ROLLED_BACK = lib.ZOO_ROLLED_BACK
    """For certain: the tags are not invalidated."""
    UNKNOWN = lib.ZOO_UNKNOWN
    """It may still take effect: the tags stay announced for the intent's quarantine."""


class Intent(Protocol):
    """One announcement: what depends on a tag of it misses until `settle`.

    `Cache.intent()` makes one, which is not announced yet: so an asynchronous exception
    cannot come between the announcement and the only one who can settle it.
    `Cache.announce` does both, and has it in a list before anybody is told.
    """

    tags: Iterable[str] | None
    session: str
    quarantine: float

    def announce(self, tags: Iterable[str] | None, session: str, quarantine: float, /) -> bool:
        """False if the segment was retired: its successor must be told, too.

        `tags` None announces everything. `session` names the database session, at
        most 63 bytes of it, for whoever must find out whether it is gone;
        `quarantine` is how long, in seconds, the announcement outlives a process
        that dies before it settles, or a commit whose outcome is unknown.
        """

    def settle(self, end: End, /) -> bool:
        """Ends the announcement; False if its tags must be invalidated otherwise.

        That is so where no lane was free for it, where another process took it
        over because this one seemed dead, and in a segment that was retired.
        """


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
