"""Why an entry is served or not: what a get would judge by."""

from __future__ import annotations

import enum
import time
from typing import NamedTuple

from zoocache.shm._core import ffi, lib
from zoocache.shm.cache import Cache, encode_key, status_error

_MOST_DEPS: int = lib.ZOO_MAX_DEPS
EVERYTHING = bytes(8)
"""The hash that stands for a clear."""


class State(enum.IntEnum):
    """What a get of a key would come to."""

    FRESH = lib.ZOO_OK
    ABSENT = lib.ZOO_MISS
    STALE = lib.ZOO_STALE
    EXPIRED = lib.ZOO_EXPIRED
    PENDING = lib.ZOO_PENDING
    """A commit of something that it depends on is under way."""
    LAPPED = lib.ZOO_LAPPED
    CORRUPT = lib.ZOO_CORRUPT
    RETIRED = lib.ZOO_RETIRED


class Entry(NamedTuple):
    """An entry, fresh or not."""

    state: State
    stamp: int = 0
    """The clock when its computation began."""
    expires: float | None = None
    """Unix time, in seconds; None: never."""
    size: int = 0
    """Of its value, in bytes."""
    deps: tuple[bytes, ...] = ()
    """Hashes of the tags that it depends on, its own key's and `EVERYTHING` among them."""
    bumped: tuple[bytes, ...] = ()
    """Those of them that were invalidated since, as far as the tag table can tell them apart."""


def explain(cache: Cache, key: bytes | str) -> Entry:
    """What a get of the key would come to, and why. Counts as no hit and no miss."""
    name = encode_key(key)
    entry, deps = ffi.new("zoo_entry *"), ffi.new("char[]", 8 * _MOST_DEPS)
    status = lib.zoo_explain(cache.segment.handle, name, len(name), entry, deps, 8 * _MOST_DEPS)
    if status < 0:
        raise status_error(status, key)
    state = State(status)
    if not entry.stamp:
        return Entry(state)
    packed = ffi.unpack(deps, 8 * int(entry.n_deps))
    own = int(entry.key_tag).to_bytes(8, "little")
    hashes = (*(packed[i : i + 8] for i in range(0, len(packed), 8)), own, EVERYTHING)
    since_boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return Entry(
        state,
        int(entry.stamp),
        since_boot + entry.expiry_ms / 1000 if entry.expiry_ms else None,
        int(entry.value_len),
        hashes,
        tuple(tag for tag in hashes if clock_of(cache, tag) > entry.stamp),
    )


def clock_of(cache: Cache, tag: bytes) -> int:
    """A clock that is at least that of the last invalidation of the tag with this hash."""
    return int(lib.zoo_clock_of(cache.segment.handle, int.from_bytes(tag, "little")))
