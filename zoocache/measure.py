"""Measures zoocache on this machine, beside floors that nothing can go below.

Contenders take turns of a few milliseconds, so that whatever else the machine
does meets all of them; the median of the turns counts.
"""

from __future__ import annotations

import os
import pickle
import random
import statistics
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from zoocache import config
from zoocache.cacheable import cacheable
from zoocache.shm import Cache, Segment, unlink

SIZES = {"100 B": 100, "1 KiB": 1024, "10 KiB": 10240}
"""Of the values, in bytes."""

DICT, IN_PROCESS, ZOOCACHE, CACHEABLE = "dict", "in-process", "zoocache", "@cacheable"
_KEYS = 1000
_PICKS = 512
_TURN = 0.003  # seconds
_TAG = "bench:tag"


class Figure(NamedTuple):
    """One contender at one thing, in nanoseconds for each operation."""

    what: str
    size: str
    who: str
    ns: float
    turns: int


class Scaling(NamedTuple):
    """Hits per second of so many processes together."""

    processes: int
    hits: float


class Results(NamedTuple):
    """What was measured."""

    figures: list[Figure]
    scaling: list[Scaling]
    seconds: float


class InProcess:
    """What Django's LocMemCache does for a get and a set: a lock, LRU order, expiry, pickle."""

    def __init__(self) -> None:
        self._values: OrderedDict[str, bytes] = OrderedDict()
        self._expiry: dict[str, float] = {}
        self._lock = threading.Lock()

    def get(self, key: str) -> object:
        with self._lock:
            expiry = self._expiry.get(key)
            if expiry is None or expiry <= time.time():
                return None
            pickled = self._values[key]
            self._values.move_to_end(key, last=False)
        return pickle.loads(pickled)

    def set(self, key: str, value: object) -> None:
        pickled = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        with self._lock:
            self._values[key] = pickled
            self._values.move_to_end(key, last=False)
            self._expiry[key] = time.time() + 300


Work = Callable[[Sequence[str]], None]


def measure(seconds: float, note: Callable[[str, float], None]) -> Results:
    """Measures for so long. `note` is told what is next, and how much is done, from 0 to 1."""
    name = f"bench-{os.getpid()}"
    began = time.monotonic()
    try:
        figures: list[Figure] = []
        for i, (label, size) in enumerate(SIZES.items()):
            note(f"values of {label}", 0.8 * i / len(SIZES))
            figures += _at_size(name, label, size, 0.8 * seconds / len(SIZES))
        note("processes together", 0.8)
        scaling = _scaling(name, 0.2 * seconds)
        note("done", 1.0)
        return Results(figures, scaling, time.monotonic() - began)
    finally:
        unlink(name)


def _at_size(name: str, label: str, size: int, seconds: float) -> list[Figure]:
    keys = [f"key:{number}" for number in range(_KEYS)]
    # Incompressible for nobody's benefit, and the same for all.
    value = random.Random(size).randbytes(size)
    unlink(name)
    cache = Cache(Segment(name, max(1 << 21, 8 * _KEYS * size)))
    plain, local = dict.fromkeys(keys, value), InProcess()
    for key in keys:
        local.set(key, value)
        cache.set(key, value, tags=[_TAG])
    works: dict[tuple[str, str], Work] = {
        ("hit", DICT): _each(plain.get),
        ("hit", IN_PROCESS): _each(local.get),
        ("hit", ZOOCACHE): _each(cache.get),
        ("store", DICT): _each(lambda key: plain.__setitem__(key, value)),
        ("store", IN_PROCESS): _each(lambda key: local.set(key, value)),
        ("store", ZOOCACHE): _each(lambda key: cache.set(key, value, tags=[_TAG])),
        ("invalidate a tag", ZOOCACHE): _each(lambda key: cache.invalidate("bench:other")),
    }
    picks = random.Random(1).choices(keys, k=_PICKS)
    with config.overriding(name=name, size=cache.segment.size):
        if size == SIZES["1 KiB"]:
            works["hit", CACHEABLE] = _each(_function(value))
        turns = _turns(works, picks, seconds)
    return [
        Figure(what, label, who, statistics.median(taken), len(taken))
        for (what, who), taken in turns.items()
    ]


def _each(call: Callable[[str], object]) -> Work:
    def work(keys: Sequence[str]) -> None:
        for key in keys:
            call(key)

    return work


def _function(value: bytes) -> Callable[[str], bytes]:
    @cacheable()
    def function(key: str) -> bytes:
        return value

    return function


def _turns(
    works: dict[tuple[str, str], Work], picks: Sequence[str], seconds: float
) -> dict[tuple[str, str], list[float]]:
    """Nanoseconds for each operation, of each turn of each work."""
    taken: dict[tuple[str, str], list[float]] = {name: [] for name in works}
    for work in works.values():  # nobody's first time counts
        work(picks)
    end = time.monotonic() + seconds
    order = list(works)
    rng = random.Random(2)
    while time.monotonic() < end or not all(taken.values()):
        rng.shuffle(order)
        for name in order:
            work, times, start = works[name], 0, time.perf_counter_ns()
            until = start + int(_TURN * 1e9)
            while (now := time.perf_counter_ns()) < until or not times:
                work(picks)
                times += 1
            now = time.perf_counter_ns()
            taken[name].append((now - start) / (times * len(picks)))
    return taken


def _scaling(name: str, seconds: float) -> list[Scaling]:
    """Of one process, and of as many as there are cores."""
    unlink(name)
    cache = Cache(Segment(name, 1 << 22))
    keys = [f"key:{number}" for number in range(_KEYS)]
    for key in keys:
        cache.set(key, b"x" * 100, tags=[_TAG])
    picks = random.Random(1).choices(keys, k=_PICKS)
    cores = len(os.sched_getaffinity(0))
    counts = sorted({1, min(2, cores), cores})
    return [Scaling(n, _together(cache, picks, n, seconds / len(counts))) for n in counts]


def _together(cache: Cache, picks: Sequence[str], processes: int, seconds: float) -> float:
    """Hits per second of so many processes, begun at once."""
    start = time.monotonic() + 0.05
    pipes = []
    for _ in range(processes):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(writer, b"%f" % _hits(cache, picks, start, start + seconds))
            finally:
                os._exit(0)
        os.close(writer)
        pipes.append((pid, reader))
    hits = 0.0
    for pid, reader in pipes:
        with open(reader, "rb") as pipe:
            hits += float(pipe.read() or 0)
        os.waitpid(pid, 0)
    return hits


def _hits(cache: Cache, picks: Sequence[str], start: float, end: float) -> float:
    """Hits per second until the end; of one turn at least, where the machine came to it late."""
    work, n = _each(cache.get), 0
    time.sleep(max(0.0, start - time.monotonic()))
    start = time.monotonic()
    while n == 0 or time.monotonic() < end:
        work(picks)
        n += len(picks)
    return n / (time.monotonic() - start)
