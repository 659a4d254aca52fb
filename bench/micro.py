"""What one get and one set cost, through Python, beside the peers: all in one run.

    python bench/micro.py [--rounds N] [--json FILE]

Every contender is measured in every round, in an order that changes from round
to round, so that a busy neighbour slows all of them alike. Shown are medians
over the rounds in nanoseconds, and ratios of these medians: on a shared machine
only the ratios mean anything.

The contenders do the same work: find a value of that size by a key, and hand it
over as an object of the process. dict, lru_cache and LocMemCache live in one
process and give back what is there already (LocMemCache unpickles it); zoocache
and LMDB copy the bytes out of memory that is shared with other processes.

The floors are what no get through cffi can go below: a C function that does
nothing, then a copy of so many bytes into a bytes object. The first floor's
function has no arguments, the second one's has the three of a get, whose
conversion is part of the price. Neither has a Python function around it.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb
from django.conf import settings
from django.core.cache.backends.locmem import LocMemCache

from zoocache.shm import Cache, Segment, unlink
from zoocache.shm._core import ffi, lib

SIZES = {"100 B": 100, "1 KiB": 1024, "10 KiB": 10 * 1024}
KEYS = [b"shop.Product:42:%03d" % i for i in range(64)]
TAGS = ["Product:42"]  # two tags and the key's own are checked
LOOPS = 20  # over all keys: so many operations in a measurement

FLOOR = "floor: empty call + unpack"
FLOOR_3 = "floor: empty call, 3 arguments, + unpack"
QUIET = "zoocache get, nothing invalidated since"
CHECKED = "zoocache get, all tags checked"
Operation = Callable[[bytes], Any]


def time_gets(get: Operation) -> float:
    """Nanoseconds for one call."""
    start = time.perf_counter_ns()
    for _ in range(LOOPS):
        for key in KEYS:
            get(key)
    return (time.perf_counter_ns() - start) / (LOOPS * len(KEYS))


def time_sets(put: Callable[[bytes, bytes], Any], value: bytes) -> float:
    start = time.perf_counter_ns()
    for _ in range(LOOPS):
        for key in KEYS:
            put(key, value)
    return (time.perf_counter_ns() - start) / (LOOPS * len(KEYS))


def time_floor(size: int) -> float:
    empty, unpack = lib.zoo_empty, ffi.unpack
    memory = ffi.new("char[]", size)
    start = time.perf_counter_ns()
    for _ in range(LOOPS):
        for _key in KEYS:
            empty()
            unpack(memory, size)
    return (time.perf_counter_ns() - start) / (LOOPS * len(KEYS))


def time_floor_of_three(size: int, reader: Any) -> float:
    nothing, unpack = lib.zoo_nothing, ffi.unpack
    memory = ffi.new("char[]", size)
    start = time.perf_counter_ns()
    for _ in range(LOOPS):
        for key in KEYS:
            nothing(reader, key, len(key))
            unpack(memory, size)
    return (time.perf_counter_ns() - start) / (LOOPS * len(KEYS))


class Contenders:
    """Each method of `get` and `set` is one measurement, ready to be taken in any order."""

    def __init__(self, segment: Segment, env: Any, size: int) -> None:
        self.size = size
        self.value = random.Random(size).randbytes(size)
        self.zoo = Cache(segment)
        self.env = env
        self.dict = dict.fromkeys(KEYS, self.value)
        self.locmem = LocMemCache(f"bench {size}", {"OPTIONS": {"MAX_ENTRIES": 10_000}})
        self.names = {key: key.decode() for key in KEYS}  # LocMemCache's keys are str
        self.remembered = functools.lru_cache(maxsize=1024)(lambda key: self.value)
        self.reader = lib.zoo_reader_new(segment.handle, 0, False)

    def lmdb_get(self, key: bytes) -> bytes:
        with self.env.begin() as transaction:
            return transaction.get(key)

    def lmdb_set(self, key: bytes, value: bytes) -> None:
        with self.env.begin(write=True) as transaction:
            transaction.put(key, value)

    def locmem_get(self, key: bytes) -> bytes:
        return self.locmem.get(self.names[key])

    def locmem_set(self, key: bytes, value: bytes) -> None:
        self.locmem.set(self.names[key], value)

    def zoo_set(self, key: bytes, value: bytes) -> None:
        self.zoo.set(key, value, tags=TAGS)

    def fill_up(self) -> None:
        for key in KEYS:
            for put in (self.zoo_set, self.lmdb_set, self.locmem_set):
                put(key, self.value)
            for get in (self.zoo.get, self.lmdb_get, self.locmem_get, self.remembered):
                assert get(key) == self.value

    def gets(self) -> dict[str, Callable[[], float]]:
        return {
            FLOOR: lambda: time_floor(self.size),
            FLOOR_3: lambda: time_floor_of_three(self.size, self.reader),
            QUIET: self.quiet,
            CHECKED: self.checked,
            "py-lmdb, a read transaction each": lambda: time_gets(self.lmdb_get),
            "LocMemCache.get": lambda: time_gets(self.locmem_get),
            "functools.lru_cache": lambda: time_gets(self.remembered),
            "dict.get": lambda: time_gets(self.dict.get),
        }

    def quiet(self) -> float:
        for key in KEYS:
            self.zoo_set(key, self.value)
        return time_gets(self.zoo.get)

    def checked(self) -> float:
        for key in KEYS:
            self.zoo_set(key, self.value)
        self.zoo.invalidate("Category:7", "Order")
        hits = self.zoo.stats()["hits"]
        taken = time_gets(self.zoo.get)
        assert self.zoo.stats()["hits"] - hits == LOOPS * len(KEYS)
        return taken

    def sets(self) -> dict[str, Callable[[], float]]:
        return {
            "zoocache set, one tag": lambda: time_sets(self.zoo_set, self.value),
            "zoocache set, no tag": lambda: time_sets(self.zoo.set, self.value),
            "py-lmdb, a write transaction each": lambda: time_sets(self.lmdb_set, self.value),
            "LocMemCache.set": lambda: time_sets(self.locmem_set, self.value),
            "dict": lambda: time_sets(self.dict.__setitem__, self.value),
        }


def measure(contenders: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The median of each over the rounds; the order of each round is shuffled."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    shuffle = random.Random(1).shuffle
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            taken[name].append(contenders[name]())
    return {name: statistics.median(times) for name, times in taken.items()}


def conditions() -> dict[str, Any]:
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "load average": [round(load, 2) for load in os.getloadavg()],
        "python": sys.version.split()[0],
        "lmdb": ".".join(map(str, lmdb.version())),
        "kernel": platform.release(),
    }


def table(title: str, results: dict[str, dict[str, float]], base: str) -> str:
    """One row for each contender; behind each time, its ratio to `base`."""
    names = list(next(iter(results.values())))
    width = max(map(len, names))
    lines = [title, " " * width + "".join(f"{size:>18}" for size in results)]
    for name in names:
        cells = (f"{by[name]:>9,.0f} {by[name] / by[base]:>7.2f}x" for by in results.values())
        lines.append(f"{name:<{width}}" + "".join(cells))
    return "\n".join(lines)


def verdicts(gets: dict[str, dict[str, float]]) -> str:
    by = gets["100 B"]
    lmdb_get = by["py-lmdb, a read transaction each"]
    return "\n".join(
        f"100 B, {name.removeprefix('zoocache get, ')}: {by[name] / by[FLOOR]:.2f} times the floor "
        f"without arguments, {by[name] / by[FLOOR_3]:.2f} times the one with three; "
        f"py-lmdb takes {lmdb_get / by[name]:.1f} times as long"
        for name in (QUIET, CHECKED)
    )


@contextmanager
def shared_places() -> Iterator[tuple[Segment, Any]]:
    """A segment and an LMDB environment, both in shared memory, removed afterwards."""
    name = f"bench-{os.getpid()}"
    shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=shm) as folder:
        # Without sync, as nothing else here is written to a disk either.
        env = lmdb.open(folder, map_size=64 << 20, sync=False, writemap=True)
        try:
            segment = Segment(name, 8 << 20)
            cache = Cache(segment)
            for _ in range(2 * segment.size >> 16):  # the page faults of the first lap
                cache.set(b"lap", bytes(1 << 16))
            yield segment, env
        finally:
            env.close()
            unlink(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too")
    arguments = parser.parse_args()
    settings.configure(USE_TZ=True)
    before = conditions()
    gets: dict[str, dict[str, float]] = {}
    sets: dict[str, dict[str, float]] = {}
    with shared_places() as (segment, env):
        for label, size in SIZES.items():
            contenders = Contenders(segment, env, size)
            contenders.fill_up()
            measure(contenders.gets(), 3)  # warm up
            gets[label] = measure(contenders.gets(), arguments.rounds)
            sets[label] = measure(contenders.sets(), max(1, arguments.rounds // 4))
            lib.zoo_reader_free(contenders.reader)
    for name, value in before.items():
        print(f"{name}: {value}")
    print(f"medians of {arguments.rounds} interleaved rounds, in ns; ratios to the floor\n")
    print(table("get", gets, FLOOR), "\n")
    print(table("set (ratios to zoocache's)", sets, "zoocache set, one tag"), "\n")
    print(verdicts(gets))
    if arguments.json:
        results = {"conditions": before, "rounds": arguments.rounds, "get_ns": gets, "set_ns": sets}
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
