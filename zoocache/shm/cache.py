"""Keys and values of bytes in a segment: one C call for each operation."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from zoocache.exceptions import InvalidKeyError, TagError, ZooCacheError
from zoocache.shm._core import ffi, lib
from zoocache.shm.segment import Segment

_FOREIGN: int = -lib.ZOO_FOREIGN
_MORE: int = -lib.ZOO_MORE
_E_KEY: int = lib.ZOO_E_KEY

# Room for nearly all records; the kernel backs only the part that they reach.
_READER_BYTES = 128 * 1024


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


class Found(NamedTuple):
    """A value with the hashes of the tags it depends on, 8 bytes each."""

    value: bytes
    deps: bytes


class Cache:
    """Get, set, delete and invalidate in a segment shared by every process of the host.

    Keys are 1 to 1,024 bytes (a str is taken as UTF-8), values are bytes.
    A tag is a path, "Product:category:5"; an entry depends on its tags and on
    all their prefixes. Safe for threads and across fork.
    """

    get: Callable[[bytes | str], bytes | None]
    """The value of a key, or None where it is absent, expired or invalidated."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self._handle = segment.handle
        self._spare_readers: list[Any] = []
        self.get = self._make_get()

    def _make_get(self) -> Callable[[bytes | str], bytes | None]:
        # A closure over one thread's reader: looking these names up on every
        # call, or taking a reader from a pool, costs as much as the get itself.
        reader = self._new_reader(_READER_BYTES, bound=True)
        value = lib.zoo_reader_value(reader)
        zoo_get, unpack, get_slowly = lib.zoo_get, ffi.unpack, self._get_slowly

        busy = False

        def get(key: bytes | str) -> bytes | None:
            nonlocal busy
            if busy:  # a signal handler, or a finalizer, in the middle of a get
                return get_slowly(key, _FOREIGN)
            busy = True
            try:
                n = zoo_get(reader, key, len(key))
                if n >= 0:
                    return unpack(value, n)  # type: ignore[no-any-return]
            except TypeError:
                n = _FOREIGN
            finally:
                busy = False
            return get_slowly(key, n)

        return get

    def _get_slowly(self, key: bytes | str, outcome: int) -> bytes | None:
        if outcome in (_FOREIGN, _MORE):
            found = self.get_with_deps(key)
            return found and found.value
        if outcome == _E_KEY:
            raise _key_error(_encode_key(key))
        return None

    def get_with_deps(self, key: bytes | str) -> Found | None:
        """Like `get`, with the dependency hashes that a fill made from the value must inherit."""
        if not isinstance(key, bytes):
            key = _encode_key(key)
        try:
            reader = self._spare_readers.pop()
        except IndexError:
            reader = self._new_reader(_READER_BYTES)
        try:
            n = lib.zoo_get(reader, key, len(key))
            if n == _MORE:
                large = self._new_reader(self.segment.max_record)
                return _found(large, lib.zoo_get(large, key, len(key)))
            if n == _E_KEY:
                raise _key_error(key)
            return _found(reader, n)
        finally:
            self._spare_readers.append(reader)

    def _new_reader(self, size: int, *, bound: bool = False) -> Any:
        reader = lib.zoo_reader_new(self._handle, size, bound)
        if reader == ffi.NULL:
            raise MemoryError
        return ffi.gc(reader, lib.zoo_reader_free)

    def set(
        self,
        key: bytes | str,
        value: bytes,
        *,
        ttl: float | None = None,
        tags: Iterable[str] = (),
    ) -> Outcome:
        """Stores a value that is new now, for `ttl` seconds (None: no expiry).

        If it cannot be stored, no earlier value of the key is left either.
        """
        return self._store(key, value, ttl, tags, b"", 0)

    def fill(
        self,
        key: bytes | str,
        value: bytes,
        stamp: int,
        *,
        ttl: float | None = None,
        tags: Iterable[str] = (),
        deps: bytes = b"",
    ) -> Outcome:
        """Stores a value whose computation began when `stamp()` returned `stamp`.

        Never replaces a value with a newer stamp, and a value that was
        invalidated since its stamp is never served. `deps` are dependency
        hashes from `get_with_deps`, joined. ValueError for a stamp that is none.
        """
        if stamp <= 0:
            raise ValueError(f"{stamp!r} is not a stamp: call stamp() before the value is computed")
        return self._store(key, value, ttl, tags, deps, stamp)

    def _store(
        self,
        key: bytes | str,
        value: bytes,
        ttl: float | None,
        tags: Iterable[str],
        deps: bytes,
        stamp: int,
    ) -> Outcome:
        if not isinstance(key, bytes):
            key = _encode_key(key)
        # Rounded up: 0 would mean "for ever".
        ttl_ms = 0 if ttl is None else max(1, int(ttl * 1000))
        packed = _pack_tags(tags) if tags else b""
        status = lib.zoo_set(
            self._handle, key, len(key), value, len(value), ttl_ms,
            packed, len(packed), deps, len(deps) // 8, stamp,
        )  # fmt: skip
        if status < 0:
            raise _error(status, key)
        return Outcome(status)

    def delete(self, key: bytes | str) -> bool:
        """Removes `key`; True if it was there. A fill under way cannot bring it back."""
        if not isinstance(key, bytes):
            key = _encode_key(key)
        status = lib.zoo_delete(self._handle, key, len(key))
        if status < 0:
            raise _error(status, key)
        return bool(status == lib.ZOO_OK)

    def stamp(self) -> int:
        """The clock now. Take it before reading what a fill is made from."""
        return int(lib.zoo_stamp(self._handle))

    def invalidate(self, *tags: str) -> None:
        """Makes stale, in every process, all that depends on a tag and was begun before now."""
        if not tags:
            return
        packed = _pack_tags(tags)
        status = lib.zoo_invalidate(self._handle, packed, len(packed))
        if status < 0:
            raise _error(status, b"")

    def clear(self) -> None:
        """Makes every entry stale, whatever it depends on."""
        lib.zoo_clear(self._handle)

    def merge(self, remote: int) -> bool:
        """Moves the clock up to another host's; False if that is over 60 s ahead."""
        return bool(lib.zoo_merge(self._handle, remote))

    def stats(self) -> dict[str, int]:
        """Counters of the whole host since the segment was made.

        `misses` is the sum of its causes: `absent`, `stale`, `expired`, `lapped`.
        """
        counters = ffi.new("uint64_t[]", lib.ZOO_STATS)
        lib.zoo_stats(self._handle, counters)
        stats = {name: int(counters[index]) for name, index in _STATS.items()}
        stats["misses"] = stats["absent"] + stats["stale"] + stats["expired"] + stats["lapped"]
        return stats


_STATS = {
    name.removeprefix("ZOO_N_").lower(): index
    for index, name in ffi.typeof("zoo_stat").elements.items()
}


def _found(reader: Any, n: int) -> Found | None:
    if n < 0:
        return None
    n_deps = ffi.new("size_t *")
    deps = lib.zoo_reader_deps(reader, n_deps)
    return Found(ffi.unpack(lib.zoo_reader_value(reader), n), ffi.unpack(deps, n_deps[0] * 8))


def _encode_key(key: object) -> bytes:
    if isinstance(key, str):
        return key.encode("utf-8", "surrogatepass")
    if isinstance(key, (bytearray, memoryview, bytes)):
        return bytes(key)
    raise InvalidKeyError(f"a key is bytes or str, not {type(key).__name__}")


def _pack_tags(tags: Iterable[str]) -> bytes:
    if isinstance(tags, str):
        raise TagError(f"tags are a list, not the string {tags!r}: write [{tags!r}]")
    tags = tuple(tags)
    try:
        joined = "\0".join(tags)
    except TypeError:
        odd = next(tag for tag in tags if not isinstance(tag, str))
        raise TagError(f"a tag is a str, not {type(odd).__name__}") from None
    if joined.count("\0") >= len(tags) > 0:
        odd = next(tag for tag in tags if "\0" in tag)
        raise TagError(f"a tag cannot hold a NUL character: {odd!r}")
    if tags and not joined:  # the core would take it for no tags at all
        raise _error(lib.ZOO_E_TAG, b"")
    return joined.encode("utf-8", "surrogatepass")


def _key_error(key: bytes) -> InvalidKeyError:
    if not key:
        return InvalidKeyError("a key cannot be empty")
    return InvalidKeyError(
        f"a key of {len(key)} bytes is too long: the most is {lib.ZOO_MAX_KEY}; hash it first"
    )


def _error(status: int, key: bytes) -> ZooCacheError:
    if status == _E_KEY:
        return _key_error(key)
    if status == lib.ZOO_E_TAG:
        return TagError('a tag is one or more non-empty parts joined by ":", like "Product:42"')
    return ZooCacheError(f"the core refused the call with status {status}")
