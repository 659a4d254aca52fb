"""Keys and values of bytes in a segment: one C call for each operation."""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from zoocache.exceptions import (
    InvalidKeyError,
    NotANumberError,
    SegmentRetiredError,
    TagError,
    ZooCacheError,
)
from zoocache.shm._core import bind, ffi, lib
from zoocache.shm.intent import Intent
from zoocache.shm.segment import Segment

_KEYS_AT_ONCE = 64 * 1024  # bytes
_LAST = 2**64 - 1
_MOST_SECONDS = 1e11  # three thousand years: no sum overflows
STAMPS_PER_SECOND = 250_000
Key = bytes | str


class Outcome(enum.IntEnum):
    """What became of a `Cache.set` or of a `Cache.fill`."""

    STORED = lib.ZOO_OK
    BORN_DEAD = lib.ZOO_BORN_DEAD
    """A tag was invalidated between the fill's stamp and its store."""
    OLDER = lib.ZOO_OLDER
    """The entry that is there has a newer stamp than the fill."""
    TOO_LARGE = lib.ZOO_TOO_LARGE
    """The record is longer than `Segment.max_record`, or has more than 4,095 tags."""
    CROWDED = lib.ZOO_CROWDED
    """Lost every race for a place: the key is absent."""
    RETIRED = lib.ZOO_RETIRED
    """The segment has a successor: a fill belongs where its stamp was taken."""


_OUTCOMES = tuple(
    Outcome(n) if n in Outcome._value2member_map_ else None for n in range(lib.ZOO_CORRUPT + 1)
)


class _Store(Protocol):
    def __call__(
        self, key: Key, value: bytes, /, *, ttl: float | None = None, tags: Iterable[str] = ()
    ) -> Outcome: ...


class _StoreIf(Protocol):
    def __call__(
        self, key: Key, value: bytes, /, *, ttl: float | None = None, tags: Iterable[str] = ()
    ) -> bool: ...


class _StoreMany(Protocol):
    def __call__(
        self,
        items: Mapping[Key, bytes],
        /,
        *,
        ttl: float | None = None,
        tags: Iterable[str] = (),
    ) -> dict[Key, Outcome]: ...


class _Fill(Protocol):
    def __call__(
        self,
        key: Key,
        value: bytes,
        stamp: int,
        /,
        *,
        ttl: float | None = None,
        tags: Iterable[str] = (),
        deps: bytes = b"",
    ) -> Outcome: ...


class Found(NamedTuple):
    """A value with the hashes of the tags it depends on, 8 bytes each."""

    value: bytes
    deps: bytes
    fresh: bool
    """False for a value that has expired, within the grace that was asked for."""
    stamp: int
    """When its computation began."""
    expiry: int
    """CLOCK_BOOTTIME in ms at which it expires; 0: never."""


class Cache:
    """Keys and values in a segment shared by every process of the host.

    Keys are 1 to 1,024 bytes (a str is taken as UTF-8), values are bytes. A ttl
    is in seconds, None for no expiry. A tag is a path, "Product:category:5"; an
    entry depends on its tags and on all their prefixes. Safe for threads and
    across fork.

    Every operation is atomic across processes. Reads of a segment that was
    retired find nothing; what would be lost raises SegmentRetiredError, and the
    segment must be opened again.
    """

    # Built-in functions of the door, put here by __init__: a method in Python around
    # one would cost as much as the operation.
    get: Callable[[Key], bytes | None]
    """The value of a key, or None where it is absent, expired or invalidated."""
    get_many: Callable[[Iterable[Key]], list[bytes | None]]
    """The values of keys, in their order, in one call."""
    set: _Store
    """Stores a value that is new now. If it cannot be stored, no earlier value is left either."""
    set_many: _StoreMany
    """Like `set` for each item, in one call; returns what became of those not stored."""
    add: _StoreIf
    """Stores a value unless the key has one; of many that try at once, one gets True."""
    replace: _StoreIf
    """Stores a value if the key has one."""
    fill: _Fill
    """Stores a value whose computation began when `stamp()` returned `stamp`.

    Never replaces a value with a newer stamp, and a value that was invalidated
    since its stamp is never served. `deps` are dependency hashes from
    `get_with_deps`, joined. ValueError for a stamp that is none.
    """
    intent: Callable[[], Intent]
    """A commit that is to be announced."""
    announce: Callable[[list[Any], Iterable[str] | None, str, float], bool]
    """Adds an Intent to the list, and announces it as its own `announce` does."""
    invalidate: Callable[..., None]
    """Makes stale, in every process, all that depends on one of these tags and was begun before."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self._handle = segment.handle
        address = int(ffi.cast("uintptr_t", segment.handle))
        self._find: Callable[[Key, int], tuple[bytes, bytes, bool, int, int] | None]
        for name, operation in bind(
            int(lib.zoo_core()), address, segment, status_error, _OUTCOMES
        ).items():
            setattr(self, "_find" if name == "find" else name, operation)

    def get_with_deps(self, key: Key, *, grace: float = 0) -> Found | None:
        """Like `get`, with the dependency hashes that a fill made from the value must inherit.

        A value that expired less than `grace` seconds ago is found too, not `fresh`.
        """
        found = self._find(key, int(grace * 1000))
        return None if found is None else Found(*found)

    def touch(self, key: Key, *, ttl: float | None = None) -> bool:
        """Gives the key's entry another time to live; False where there is none."""
        key = encode_key(key)
        return self._changed(lib.zoo_touch(self._handle, key, len(key), _ms(ttl)), key)

    def incr(self, key: Key, delta: int = 1) -> int | None:
        """Adds to a value that is a decimal number, `b"41"`; None where there is none.

        The entry keeps its expiry and its tags. Raises NotANumberError for
        another value, OverflowError where a result would not fit 64 bits.
        """
        key = encode_key(key)
        result = ffi.new("int64_t *")
        if not -(2**63) <= delta < 2**63:
            raise OverflowError(f"{delta} does not fit 64 bits")
        status = lib.zoo_incr(self._handle, key, len(key), delta, result)
        if status == lib.ZOO_NO_NUMBER:
            raise NotANumberError(f"the value of {key!r} is not a decimal number of 64 bits")
        if status == lib.ZOO_OVERFLOW:
            raise OverflowError(f"the value of {key!r} plus {delta} does not fit 64 bits")
        return int(result[0]) if self._changed(status, key) else None

    def compare_and_set(self, key: Key, expected: bytes, value: bytes) -> bool:
        """Changes the value if it is `expected`; the entry keeps its expiry and its tags."""
        key = encode_key(key)
        status = lib.zoo_compare_and_set(
            self._handle, key, len(key), expected, len(expected), value, len(value)
        )
        return self._changed(status, key)

    def delete(self, key: Key) -> bool:
        """Removes `key`; True, to one of many at a time, if it could still be served.

        A fill under way cannot bring it back.
        """
        key = encode_key(key)
        return self._changed(lib.zoo_delete(self._handle, key, len(key)), key)

    def _changed(self, status: int, key: bytes) -> bool:
        if status == lib.ZOO_RETIRED:
            self.segment.note_retired()
        if status < 0 or status in (lib.ZOO_RETIRED, lib.ZOO_CROWDED, lib.ZOO_TOO_LARGE):
            raise status_error(status, key)
        return bool(status == lib.ZOO_OK)

    def keys(self) -> Iterator[bytes]:
        """The keys of live entries, while others go on; what stays is seen at least once."""
        cursor = ffi.new("uint64_t *")
        buffer = ffi.new("char[]", _KEYS_AT_ONCE)
        while cursor[0] != _LAST:
            n = lib.zoo_keys(self._handle, cursor, buffer, _KEYS_AT_ONCE)
            packed = ffi.unpack(buffer, n)
            at = 0
            while at < n:
                (length,) = struct.unpack_from("=H", packed, at)
                yield packed[at + 2 : at + 2 + length]
                at += 2 + length

    def stamp(self) -> int:
        """The clock now. Take it before reading what a fill is made from. 0: retired."""
        return int(lib.zoo_stamp(self._handle))

    def stamp_of_time(self) -> int:
        """What the clock would be by physical time alone: it stands still between invalidations."""
        return int(lib.zoo_time(self._handle))

    def note_compared(self, *, differed: bool) -> None:
        """Counts a hit that was compared with its source."""
        lib.zoo_note_compared(self._handle, differed)

    def clear(self) -> None:
        """Makes every entry stale, whatever it depends on."""
        if lib.zoo_clear(self._handle) == lib.ZOO_RETIRED:
            self.segment.note_retired()
            raise status_error(lib.ZOO_RETIRED, b"")

    def merge(self, remote: int) -> bool:
        """Moves the clock up to another host's; False if that is over 60 s ahead."""
        return bool(lib.zoo_merge(self._handle, remote))

    def stats(self) -> dict[str, int]:
        """Counters of the whole host since the segment was made.

        `misses` is the sum of its causes: `absent`, `stale`, `expired`, `lapped`,
        `corrupt`, `pending`.
        """
        counters = ffi.new("uint64_t[]", lib.ZOO_STATS)
        lib.zoo_stats(self._handle, counters)
        stats = {name: int(counters[index]) for name, index in _STATS.items()}
        stats["misses"] = sum(stats[cause] for cause in _MISSES)
        return stats


_STATS = {
    name.removeprefix("ZOO_N_").lower(): index
    for index, name in ffi.typeof("zoo_stat").elements.items()
}
_MISSES = ("absent", "stale", "expired", "lapped", "corrupt", "pending")


def _ms(ttl: float | None) -> int:
    if ttl is None:
        return 0
    if not ttl < _MOST_SECONDS:  # nor is it "not a number"
        raise ValueError(f"a ttl is a number of seconds below 1e11, not {ttl!r}")
    return max(1, int(ttl * 1000))  # rounded up: 0 would mean "for ever"


def encode_key(key: object) -> bytes:
    if isinstance(key, bytes):
        return key
    if isinstance(key, str):
        return key.encode("utf-8", "surrogatepass")
    if isinstance(key, (bytearray, memoryview)):
        return bytes(key)
    raise _key_error(key)


def _key_error(key: object) -> InvalidKeyError:
    if not isinstance(key, (bytes, str, bytearray, memoryview)):
        return InvalidKeyError(f"a key is bytes or str, not {type(key).__name__}")
    if not key:
        return InvalidKeyError("a key cannot be empty")
    return InvalidKeyError(
        f"a key of {len(encode_key(key))} bytes is too long: the most is {lib.ZOO_MAX_KEY}; "
        f"hash it first"
    )


def _tag_error(tag: object) -> TagError:
    if not isinstance(tag, str):
        return TagError(f"a tag is a str, not {type(tag).__name__}")
    if "\0" in tag:
        return TagError(f"a tag cannot hold a NUL character: {tag!r}")
    if "" not in tag.split(":"):  # it was given where a list belongs
        return TagError(f"tags are a list, not the string {tag!r}: write [{tag!r}]")
    return TagError('a tag is one or more non-empty parts joined by ":", like "Product:42"')


def status_error(status: int, about: Any) -> Exception:
    """The exception for a status of the core; `about` is the key or the tag."""
    if status == lib.ZOO_E_KEY:
        return _key_error(about)
    if status == lib.ZOO_E_TAG:
        return _tag_error(about)
    if status == lib.ZOO_RETIRED:
        return SegmentRetiredError("the segment was replaced or removed: open it again")
    if status == lib.ZOO_E_MEMORY:
        return MemoryError()
    if status == lib.ZOO_E_ARGUMENT:
        return ValueError("not a stamp: call stamp() before the value is computed")
    if status == lib.ZOO_TOO_LARGE:
        return ZooCacheError(f"the value of {about!r} would be too large for the segment")
    return ZooCacheError(f"the core refused the call with status {status}")
