"""The contenders: each opens itself in a place, and then gets and sets.

A contender whose package or server is missing raises when it is opened; `how`
says what to install. A new object in another process attaches to what is
shared. Keys are in the type that the contender likes best, made beforehand.

What they do is the same: find a value of that size by a key, and hand it over
as an object of this process. dict, lru_cache and LocMemCache belong to one
process and have the object already (LocMemCache unpickles it).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from servers import MissingServerError, Place
from timing import KEYS, key_bytes, value_of

from zoocache.shm import Cache, Segment

TAG = "Product:42"


class Peer:
    name: str
    how = "pip install 'zoocache[bench]'"
    keys_are: type = str
    private = False
    """Lives in one process; there is nothing that a second one could share."""

    get: Callable[[Any], Any]
    set: Callable[[Any, bytes], Any]
    get_many: Callable[[Sequence[Any]], Any] | None = None

    def __init__(self, place: Place) -> None:
        raise NotImplementedError

    def keys(self) -> list[Any]:
        made = map(key_bytes, range(KEYS))
        return list(made) if self.keys_are is bytes else [key.decode() for key in made]

    def fill(self, value: bytes) -> None:
        for key in self.keys():
            self.set(key, value)

    def prepare(self) -> None:
        """Runs before every sample, untimed."""

    def close(self) -> None:
        """Lets go of what this process holds."""


def room_for(size: int) -> int:
    """Bytes for all keys with such values, so that what is live is not overwritten next."""
    return max(32 << 20, 6 * KEYS * (size + 256))


class Zoo(Peer):
    name = "zoocache"
    keys_are = bytes
    suffix = ""

    def __init__(self, place: Place) -> None:
        self.cache = Cache(Segment(place.segment + self.suffix, room_for(place.size)))
        self.get, self.set = self.cache.get, self.cache.set
        self.get_many = getattr(self.cache, "get_many", None)

    def fill(self, value: bytes) -> None:
        # The first lap of the log takes a page fault for each four sets of 1 KiB.
        for _ in range(2 + room_for(len(value)) // (KEYS * (len(value) + 80))):
            super().fill(value)


class ZooTagged(Zoo):
    """Every hit has tags to check: something else was invalidated after the entry was stored."""

    name = "zoocache, tagged"
    suffix = "-tagged"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        tags = [TAG]
        self.set = lambda key, value: self.cache.set(key, value, tags=tags)

    def prepare(self) -> None:
        self.cache.invalidate("Category:7", "Order")


class Lmdb(Peer):
    name = "py-lmdb"  # a transaction for each get, and for each set
    keys_are = bytes

    def __init__(self, place: Place) -> None:
        import lmdb

        # Without sync, as nothing else here is written to a disk either.
        folder = str(place.folder / "lmdb")
        self.env = lmdb.open(folder, map_size=2 << 30, sync=False, writemap=True, max_readers=64)

    def get(self, key: bytes) -> bytes | None:
        with self.env.begin() as transaction:
            return transaction.get(key)

    def set(self, key: bytes, value: bytes) -> None:
        with self.env.begin(write=True) as transaction:
            transaction.put(key, value)

    def get_many(self, keys: Iterable[bytes]) -> list[bytes | None]:
        with self.env.begin() as transaction:
            get = transaction.get
            return [get(key) for key in keys]

    def close(self) -> None:
        self.env.close()


class DiskCache(Peer):
    name = "diskcache"

    def __init__(self, place: Place) -> None:
        import diskcache

        self.cache = diskcache.Cache(str(place.folder / "diskcache"), size_limit=4 << 30)
        self.get, self.set = self.cache.get, self.cache.set

    def close(self) -> None:
        self.cache.close()


class Pylibmc(Peer):
    name = "pylibmc"
    how = "apt-get install memcached libmemcached-dev; pip install pylibmc"

    def __init__(self, place: Place) -> None:
        import pylibmc

        if not place.memcached:
            raise MissingServerError("no memcached")
        self.client = pylibmc.Client([place.memcached], binary=True)
        self.get, self.set = self.client.get, self.client.set
        self.get_many = self.client.get_multi

    def close(self) -> None:
        self.client.disconnect_all()


class Pymemcache(Peer):
    name = "pymemcache"
    how = "apt-get install memcached; pip install pymemcache"

    def __init__(self, place: Place) -> None:
        from pymemcache.client.base import Client

        if not place.memcached:
            raise MissingServerError("no memcached")
        self.client = Client(f"unix:{place.memcached}")
        self.get, self.get_many = self.client.get, self.client.get_many

    def set(self, key: str, value: bytes) -> None:
        self.client.set(key, value, noreply=False)  # the others wait for the answer, too

    def close(self) -> None:
        self.client.close()


class RedisPy(Peer):
    name = "redis-py + hiredis"
    how = "apt-get install redis-server; pip install 'redis[hiredis]'"

    def __init__(self, place: Place) -> None:
        import hiredis  # noqa: F401 - redis-py would do without, and be slower
        import redis

        if not place.redis:
            raise MissingServerError("no redis-server")
        self.client = redis.Redis(unix_socket_path=place.redis)
        self.get, self.set, self.get_many = self.client.get, self.client.set, self.client.mget

    def close(self) -> None:
        self.client.close()


class DjangoPeer(Peer):
    def __init__(self, place: Place) -> None:
        self.cache = self.backend(place)
        self.get, self.set, self.get_many = self.cache.get, self.cache.set, self.cache.get_many

    def backend(self, place: Place) -> Any:
        raise NotImplementedError

    def close(self) -> None:
        self.cache.close()


class DjangoRedis(DjangoPeer):
    name = "Django RedisCache"
    how = RedisPy.how

    def backend(self, place: Place) -> Any:
        import redis  # noqa: F401 - the backend imports it at its first use only
        from django.core.cache.backends.redis import RedisCache

        if not place.redis:
            raise MissingServerError("no redis-server")
        return RedisCache(f"unix://{place.redis}", {"KEY_PREFIX": "django"})


class FileBased(DjangoPeer):
    name = "Django FileBasedCache"

    def backend(self, place: Place) -> Any:
        from django.core.cache.backends.filebased import FileBasedCache

        return FileBasedCache(str(place.folder / "files"), {"OPTIONS": {"MAX_ENTRIES": 10_000}})


class LocMem(DjangoPeer):
    name = "Django LocMemCache"
    private = True

    def backend(self, place: Place) -> Any:
        from django.core.cache.backends.locmem import LocMemCache

        return LocMemCache(f"bench {place.size}", {"OPTIONS": {"MAX_ENTRIES": 100_000}})

    def close(self) -> None:
        self.cache.clear()


class LruCache(Peer):
    name = "functools.lru_cache"
    private = True
    set = None  # it fills itself

    def __init__(self, place: Place) -> None:
        value = value_of(place.size)
        self.get = functools.lru_cache(maxsize=2 * KEYS)(lambda key: value)

    def fill(self, value: bytes) -> None:
        for key in self.keys():
            self.get(key)


class Dict(Peer):
    name = "dict"
    private = True

    def __init__(self, place: Place) -> None:
        self.data: dict[str, bytes] = {}
        self.get, self.set = self.data.get, self.data.__setitem__


PEERS: tuple[type[Peer], ...] = (
    Zoo, ZooTagged, Lmdb, DiskCache, Pylibmc, Pymemcache, RedisPy, DjangoRedis, FileBased, LocMem,
    LruCache, Dict,
)  # fmt: skip


def open_peers(place: Place, kinds: Iterable[type[Peer]], missing: dict[str, str]) -> list[Peer]:
    """Those that can be had here; what the others lack goes into `missing`."""
    opened = []
    for kind in kinds:
        try:
            opened.append(kind(place))
        except (ImportError, MissingServerError) as error:
            missing[kind.name] = f"{error}; to have it: {kind.how}"
    return opened
