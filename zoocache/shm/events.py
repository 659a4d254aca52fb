"""Which invalidations there were of late, by which process: the ring of events."""

from __future__ import annotations

import enum
import time
from typing import Any, NamedTuple

from zoocache.exceptions import TagError
from zoocache.shm._core import ffi, lib
from zoocache.shm.cache import Cache

_AT_ONCE = 256


class Cause(enum.IntEnum):
    """Why a tag was bumped."""

    INVALIDATE = lib.ZOO_BY_INVALIDATE
    COMMIT = lib.ZOO_BY_COMMIT
    DELETE = lib.ZOO_BY_DELETE
    FAILED_SET = lib.ZOO_BY_FAILED_SET
    CLEAR = lib.ZOO_BY_CLEAR
    REAPER = lib.ZOO_BY_REAPER
    """On behalf of a process that died between an announcement and its end."""


class Event(NamedTuple):
    """One bumped tag."""

    number: int
    """Counts all events of the segment: ask for those from the next one on."""
    clock: int
    """Entries with an older stamp, and this tag, are stale."""
    tag: bytes
    """Its hash, 8 bytes, as in `Found.deps`; zeros: everything."""
    text: str
    """The first 24 bytes of the tag (of the key, for a delete); "" where it is not known."""
    when: float
    """Unix time, in seconds."""
    pid: int
    cause: Cause


def events(cache: Cache, since: int = 0) -> list[Event]:
    """The newest events, oldest first, from number `since` on: some thousand are kept."""
    found: list[Event] = []
    buffer = ffi.new("zoo_event[]", _AT_ONCE)
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    while n := lib.zoo_events(cache.segment.handle, since, buffer, _AT_ONCE):
        found += [_event(buffer[i], booted) for i in range(n)]
        since = found[-1].number + 1
    return found


def hash_of(cache: Cache, tag: str) -> bytes:
    """A tag's hash in this segment, as events and dependencies have it; ValueError for no tag."""
    encoded = tag.encode("utf-8", "surrogatepass")
    number = int(lib.zoo_hash_of_tag(cache.segment.handle, encoded, len(encoded)))
    if number == 0:
        raise TagError(f"{tag!r} is not a tag: it takes one or more non-empty parts joined by ':'")
    return number.to_bytes(8, "little")


def _event(e: Any, booted: float) -> Event:
    return Event(
        number=int(e.number),
        clock=int(e.clock),
        tag=int(e.tag).to_bytes(8, "little"),
        text=bytes(ffi.buffer(e.text)).rstrip(b"\0").decode("utf-8", "replace"),
        when=booted + int(e.when_ms) / 1000,
        pid=int(e.pid),
        cause=Cause(int(e.cause)),
    )
