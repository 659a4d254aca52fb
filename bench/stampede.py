"""Eight processes ask for one key that is not there, at once; its work takes 50 ms.

Counted are the computations, and the time until the last one has its value.
The work sleeps, as it would for a database: so cores are no part of it.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

from peers import FileBased, LocMem, RedisPy
from servers import MissingServerError, Place

PROCESSES = 8
WORK = 0.05
TTL = 600

Work = Callable[[], bytes]
Serve = Callable[[str, Work], Any]


def uncached(place: Place) -> Serve:
    return lambda key, work: work()


def zoocache_cacheable(place: Place) -> Serve:
    import zoocache

    zoocache.configure(name=place.segment + "-stampede", size="32MiB")
    current: list[Work] = []

    # With a key=, what the function closes over does not tell its entries apart.
    @zoocache.cacheable(ttl=TTL, key=lambda key: key)
    def cached(key: str) -> bytes:
        return current[0]()

    def serve(key: str, work: Work) -> Any:
        current[:] = [work]
        return cached(key)

    return serve


def get_or_set(cache: Any) -> Serve:
    return lambda key, work: cache.get_or_set(key, work, TTL)


def locmem(place: Place) -> Serve:
    return get_or_set(LocMem(place).cache)


def filebased(place: Place) -> Serve:
    return get_or_set(FileBased(place).cache)


def django_redis(place: Place) -> Serve:
    from peers import DjangoRedis

    return get_or_set(DjangoRedis(place).cache)


def diskcache_stampede(place: Place) -> Serve:
    import diskcache

    cache = diskcache.Cache(str(place.folder / "stampede"))

    def serve(key: str, work: Work) -> Any:
        @diskcache.memoize_stampede(cache, TTL, name="work")
        def cached(key: str) -> bytes:
            return work()

        return cached(key)

    return serve


def diskcache_barrier(place: Place) -> Serve:
    import diskcache

    cache = diskcache.Cache(str(place.folder / "stampede"))

    def serve(key: str, work: Work) -> Any:
        @diskcache.barrier(cache, diskcache.Lock)
        def cached(key: str) -> bytes:
            value = cache.get(key)
            if value is None:
                value = work()
                cache.set(key, value, TTL)
            return value

        return cached(key)

    return serve


def dogpile(backend: str, arguments: dict[str, Any]) -> Serve:
    from dogpile.cache import make_region

    region = make_region().configure(backend, expiration_time=TTL, arguments=arguments)
    return lambda key, work: region.get_or_create(key, work)


def dogpile_redis(place: Place) -> Serve:
    RedisPy(place).close()  # raises if it is missing
    arguments = {
        "url": f"unix://{place.redis}",
        "distributed_lock": True,
        "lock_timeout": 10,
    }
    return dogpile("dogpile.cache.redis", arguments)


def dogpile_file(place: Place) -> Serve:
    return dogpile("dogpile.cache.dbm", {"filename": str(place.folder / "dogpile.dbm")})


def cashews_redis(place: Place) -> Serve:
    import asyncio

    import cashews
    from cashews.backends.redis import Redis

    if not place.redis:
        raise MissingServerError("no redis-server")
    cache = cashews.Cache()
    cashews.register_backend("unix", Redis, pass_uri=True)
    cache.setup(f"unix://{place.redis}")
    loop = asyncio.new_event_loop()
    loop.run_until_complete(cache.ping())

    def serve(key: str, work: Work) -> Any:
        @cache(ttl=TTL, key="cashews:{key}", lock=True)
        async def cached(key: str) -> bytes:
            return await loop.run_in_executor(None, work)

        return loop.run_until_complete(cached(key))

    return serve


ZOO = "zoocache @cacheable"
CONTENDERS: dict[str, Callable[[Place], Serve]] = {
    ZOO: zoocache_cacheable,
    "Django LocMemCache.get_or_set": locmem,
    "Django FileBasedCache.get_or_set": filebased,
    "Django RedisCache.get_or_set": django_redis,
    "diskcache.memoize_stampede": diskcache_stampede,
    "diskcache.barrier, Lock": diskcache_barrier,
    "dogpile.cache, redis lock": dogpile_redis,
    "dogpile.cache, file lock": dogpile_file,
    "cashews, lock=True, redis": cashews_redis,
    "no cache": uncached,
}


def serve_forever(make: Callable[[Place], Serve], place: Place, log: int, orders: Any) -> None:
    """One of the eight. `log` gets a byte for each computation."""

    def work() -> bytes:
        os.write(log, b".")
        time.sleep(WORK)
        return b"v" * 1024

    try:
        serve = make(place)
        serve("warm up", lambda: b"v")  # connections, imports and files are made beforehand
    except (ImportError, MissingServerError) as error:
        orders.send(f"{error}")
        os._exit(0)
    orders.send(None)
    while (order := orders.recv()) is not None:
        key, begin = order
        time.sleep(max(0.0, begin - time.monotonic()))
        value = serve(key, work)
        orders.send((time.monotonic(), value == b"v" * 1024))
    os._exit(0)


class Herd:
    def __init__(self, make: Callable[[Place], Serve], place: Place) -> None:
        context = multiprocessing.get_context("fork")
        self.log = os.memfd_create("computations")
        self.pipes = []
        self.workers = []
        for _ in range(PROCESSES):
            ours, theirs = context.Pipe()
            worker = context.Process(
                target=serve_forever, args=(make, place, self.log, theirs), daemon=True
            )
            worker.start()
            theirs.close()
            self.pipes.append(ours)
            self.workers.append(worker)
        self.reasons = [pipe.recv() for pipe in self.pipes]

    def run(self, key: str) -> tuple[int, float]:
        """The number of computations, and seconds until all are served."""
        before = os.fstat(self.log).st_size
        begin = time.monotonic() + 0.02
        for pipe in self.pipes:
            pipe.send((key, begin))
        ends = []
        for pipe in self.pipes:
            if not pipe.poll(30):
                raise RuntimeError("not everybody was served within 30 s")
            end, right = pipe.recv()
            assert right
            ends.append(end)
        return os.fstat(self.log).st_size - before, max(ends) - begin

    def end(self) -> None:
        for pipe, worker in zip(self.pipes, self.workers, strict=True):
            if worker.is_alive():
                pipe.send(None)
            worker.join(5)
            pipe.close()
        os.close(self.log)


def measure(place: Place, rounds: int, missing: dict[str, str]) -> dict[str, dict[str, float]]:
    """Computations (the worst round's) and ms until everybody is served (the median's)."""
    herds = {}
    for name, make in CONTENDERS.items():
        herd = Herd(make, place)
        if any(herd.reasons):
            missing[name] = f"{herd.reasons[0]}; to have it: pip install 'zoocache[bench]'"
            herd.end()
        else:
            herds[name] = herd
    taken: dict[str, list[tuple[int, float]]] = {name: [] for name in herds}
    order = list(herds)
    shuffle = random.Random(4).shuffle
    for number in range(rounds):
        shuffle(order)
        for name in order:
            taken[name].append(herds[name].run(f"missing:{number}"))
    for herd in herds.values():
        herd.end()
    return {
        name: {
            "computations": max(count for count, _ in runs),
            "ms": statistics.median(seconds for _, seconds in runs) * 1000,
            "worst ms": max(seconds for _, seconds in runs) * 1000,
        }
        for name, runs in taken.items()
    }
