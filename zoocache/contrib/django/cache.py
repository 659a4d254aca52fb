"""Django's cache framework on shared memory: `ZooCache`, a backend for `CACHES`.

    CACHES = {"default": {"BACKEND": "zoocache.contrib.django.cache.ZooCache"}}

An entry is a key and a value in a segment. The key begins with the namespace,
which is made of KEY_PREFIX, and the entry depends on a tag of the same name:
`clear` invalidates that tag and nothing else in the segment.

A value is an int as decimal text, which the core can add to, or what the
serializer makes of anything else. The first byte tells one from the other: no
serializer's output begins with a digit or a minus sign.

The cache is never the reason why a request fails: what cannot be read is a miss,
what cannot be stored is dropped, and the log has one line about each cause. A
value that the serializer refuses is the caller's error and is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any, Final, TypeVar
from urllib.parse import quote

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.core.exceptions import ImproperlyConfigured

from zoocache import config, store
from zoocache.contrib.django import places, serializers
from zoocache.exceptions import (
    ConfigError,
    NotANumberError,
    SegmentRetiredError,
    ZooCacheError,
)
from zoocache.shm import Cache, Outcome

R = TypeVar("R")
Timeout = float | None

_OPTIONS: Final = {"SERIALIZER", "SIZE", "MAX_ENTRIES", "CULL_FREQUENCY"}
_LONGEST_KEY: Final = 200  # characters; with the namespace, below the core's 1,024 bytes
_LONGEST_TIMEOUT: Final = 1e9  # seconds: 31 years, more than a host is up
_REOPENINGS: Final = 8
_MISSING: Final = object()


class ZooCache(BaseCache):
    """A cache that all processes of the host share. See docs/cache-backend.md for its settings."""

    def __init__(self, location: Any, params: dict[str, Any]) -> None:
        super().__init__(params)
        options = {str(key).upper(): value for key, value in params.get("OPTIONS", {}).items()}
        if unknown := options.keys() - _OPTIONS:
            known = ", ".join(sorted(_OPTIONS))
            raise ImproperlyConfigured(f"OPTIONS has {sorted(unknown)}; ZooCache takes {known}")
        try:
            size = config.parse_size(options["SIZE"], "SIZE") if "SIZE" in options else None
            self._place = places.find(location, size)
        except ConfigError as error:
            raise ImproperlyConfigured(f"CACHES: {error}") from error
        if size and not location:
            raise ImproperlyConfigured(
                "CACHES: SIZE is for a segment of the cache's own, which LOCATION names; the size "
                "of the one that all of zoocache shares is ZOOCACHE['SIZE']"
            )
        self._serializer = serializers.named(options.get("SERIALIZER", "pickle"))
        # Quoted, it has no ":", so that no namespace is the beginning of another, and no "*".
        namespace = quote(self.key_prefix, safe="", errors="surrogatepass")
        if len(namespace) > _LONGEST_KEY:
            namespace = "*" + blake2b(namespace.encode(), digest_size=20).hexdigest()
        self._tags = (f"dj={namespace}",)
        self._start = f"dj={namespace}:"
        self._hashed = f"dj={namespace}*"

    @property
    def place(self) -> places.Place:
        """Where its entries are."""
        return self._place

    @property
    def tags(self) -> tuple[str, ...]:
        """What drops all its entries."""
        return self._tags

    def _key(self, key: Any, version: int | None) -> str:
        made = self.make_and_validate_key(key, version)
        if len(made) <= _LONGEST_KEY:
            return self._start + made
        return self._hashed + blake2b(made.encode("utf-8", "surrogatepass")).hexdigest()

    def get_backend_timeout(self, timeout: Timeout = DEFAULT_TIMEOUT) -> Timeout:
        """Seconds to live, 0 for what is not to be kept at all, None for ever."""
        if timeout == DEFAULT_TIMEOUT:
            timeout = self.default_timeout
        if timeout is None or timeout > _LONGEST_TIMEOUT:
            return None
        return timeout if timeout > 0 else 0

    def _dump(self, value: Any) -> bytes:
        if type(value) is int and -(2**63) <= value < 2**63:  # a bool must come back as one
            return b"%d" % value
        return self._serializer.dumps(value)

    def _load(self, data: bytes) -> Any:
        """The value; _MISSING, logged once, for what cannot be loaded: by older code, say."""
        try:
            if b"-" <= data[:1] <= b"9":
                return int(data)
            return self._serializer.loads(data)
        except Exception as error:  # whatever a class does while it is unpickled
            store.log_once(
                f"a cached value cannot be loaded, a miss: {type(error).__name__}: {error}",
                about=("load", type(error)),
            )
            return _MISSING

    def _read(self, read: Callable[[Cache], R], otherwise: R) -> R:
        """What `read` returns; again if it finds out that the segment was replaced."""
        result = otherwise
        try:
            for _ in range(_REOPENINGS):
                target = self._place.cache()
                if target is None:
                    return otherwise
                result = read(target)
                if self._place.cache() is target:
                    break
        except ZooCacheError as error:
            store.log_once(f"the cache cannot be read: {error}", about=("read", type(error)))
            return otherwise
        return result

    def _write(self, write: Callable[[Cache], R], otherwise: R, *, removes: bool = False) -> R:
        """What `write` returns; again if the segment was replaced.

        What removes is done even where zoocache is off: others may read from the segment.
        """
        error: Exception | None = None
        try:
            for _ in range(_REOPENINGS):
                target = self._place.cache()
                if target is None and removes and not config.resolve(["ENABLED"]).enabled:
                    target = self._place.writer()
                if target is None:
                    return otherwise
                try:
                    return write(target)
                except SegmentRetiredError as retired:
                    error = retired
        except ZooCacheError as refused:
            error = refused
        store.log_once(f"a write to the cache was dropped: {error}", about=("write", type(error)))
        return otherwise

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        name = self._key(key, version)
        data = self._read(lambda target: target.get(name), None)
        value = _MISSING if data is None else self._load(data)
        return default if value is _MISSING else value

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        names = {key: self._key(key, version) for key in keys}
        nothing: list[bytes | None] = []
        found = self._read(lambda target: target.get_many(names.values()), nothing)
        pairs = zip(names, found, strict=False)  # there is none where the cache is off
        values = {key: self._load(data) for key, data in pairs if data is not None}
        return {key: value for key, value in values.items() if value is not _MISSING}

    def has_key(self, key: Any, version: int | None = None) -> bool:
        name = self._key(key, version)
        return self._read(lambda target: target.get(name), None) is not None

    def set(
        self, key: Any, value: Any, timeout: Timeout = DEFAULT_TIMEOUT, version: int | None = None
    ) -> None:
        name, data = self._key(key, version), self._dump(value)
        ttl = self.get_backend_timeout(timeout)
        outcome = None
        if ttl != 0:
            outcome = self._write(
                lambda target: target.set(name, data, ttl=ttl, tags=self._tags), None
            )
        if outcome is None:
            self._remove([name])  # its old value is not its value any more
        elif outcome is not Outcome.STORED:
            _refused(name, outcome)

    def set_many(
        self, data: dict[Any, Any], timeout: Timeout = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[Any]:
        names = {self._key(key, version): key for key in data}
        items: dict[bytes | str, bytes] = {
            name: self._dump(data[key]) for name, key in names.items()
        }
        ttl = self.get_backend_timeout(timeout)
        if ttl == 0:
            self._remove(names)
            return []
        failed = self._write(lambda target: target.set_many(items, ttl=ttl, tags=self._tags), None)
        if failed is None:
            self._remove(names)
            return list(data)
        for name, outcome in failed.items():
            _refused(name, outcome)
        return [names[str(name)] for name in failed]

    def add(
        self, key: Any, value: Any, timeout: Timeout = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        name, data = self._key(key, version), self._dump(value)
        ttl = self.get_backend_timeout(timeout)
        if ttl == 0:  # stored and expired at once
            return self._read(lambda target: target.get(name), None) is None

        def add(target: Cache) -> bool:
            if target.add(name, data, ttl=ttl, tags=self._tags):
                return True
            there = target.get(name)
            if there is None and len(data) >= target.segment.max_record - 4096:
                _refused(name, Outcome.TOO_LARGE)
            if there is None or self._load(there) is not _MISSING:
                return False
            # What nobody can load counts as absent: get_or_set would compute it for ever.
            return target.compare_and_set(name, there, data) and target.touch(name, ttl=ttl)

        return self._write(add, False)

    def touch(
        self, key: Any, timeout: Timeout = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        name = self._key(key, version)
        ttl = self.get_backend_timeout(timeout)
        if ttl == 0:
            return self.delete(key, version)
        return self._write(lambda target: target.touch(name, ttl=ttl), False)

    def delete(self, key: Any, version: int | None = None) -> bool:
        return self._remove([self._key(key, version)]) > 0

    def delete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        self._remove([self._key(key, version) for key in keys])

    def _remove(self, names: Iterable[str]) -> int:
        """How many of the entries were there."""
        return self._write(
            lambda target: sum(target.delete(name) for name in names), 0, removes=True
        )

    def incr(self, key: Any, delta: int = 1, version: int | None = None) -> Any:
        name = self._key(key, version)
        value = self._write(lambda target: self._incr(target, name, delta), _MISSING)
        if value is _MISSING:
            raise ValueError(f"Key {key!r} not found")
        return value

    def _incr(self, target: Cache, name: str, delta: Any) -> Any:
        if type(delta) is int:
            try:
                number = target.incr(name, delta)
                return _MISSING if number is None else number
            except (NotANumberError, OverflowError):
                pass
        while True:  # it is another kind of number, or becomes one
            there = target.get(name)
            value = _MISSING if there is None else self._load(there)
            if there is None or value is _MISSING:
                return _MISSING
            value = value + delta
            if target.compare_and_set(name, there, self._dump(value)):
                return value

    def clear(self) -> None:
        """Drops the entries of this KEY_PREFIX in this segment, of every version, and no other."""
        self._write(lambda target: target.invalidate(*self._tags), None, removes=True)

    # What Django's own a-methods do is to call the others in a thread. Here nothing waits for a
    # network or a disk: an operation is over long before a thread would have taken it up.

    async def aget(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        return self.get(key, default, version)

    async def aget_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        return self.get_many(keys, version)

    async def ahas_key(self, key: Any, version: int | None = None) -> bool:
        return self.has_key(key, version)

    async def aset(
        self, key: Any, value: Any, timeout: Timeout = DEFAULT_TIMEOUT, version: int | None = None
    ) -> None:
        self.set(key, value, timeout, version)

    async def aset_many(
        self, data: dict[Any, Any], timeout: Timeout = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[Any]:
        return self.set_many(data, timeout, version)

    async def aadd(
        self, key: Any, value: Any, timeout: Timeout = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        return self.add(key, value, timeout, version)

    async def atouch(
        self, key: Any, timeout: Timeout = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        return self.touch(key, timeout, version)

    async def adelete(self, key: Any, version: int | None = None) -> bool:
        return self.delete(key, version)

    async def adelete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        self.delete_many(keys, version)

    async def aincr(self, key: Any, delta: int = 1, version: int | None = None) -> Any:
        return self.incr(key, delta, version)

    async def aclear(self) -> None:
        self.clear()

    async def aclose(self, **kwargs: Any) -> None:
        self.close(**kwargs)


def _refused(name: bytes | str, outcome: Outcome) -> None:
    store.log_once(
        f"a value was not stored ({outcome.name}), its key {name!r} is absent: a value may take "
        f"about an eighth of the segment",
        about=("refused", outcome),
    )
