"""How everything here is timed: in rounds, each contender in each, in an order that changes.

A busy neighbour then slows all of them alike. What is shown are medians over
the rounds, and ratios of these medians: on a shared machine only the ratios
mean anything.
"""

from __future__ import annotations

import gc
import importlib.metadata
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

KEYS = 1000
SIZES = {"100 B": 100, "1 KiB": 1024, "10 KiB": 10 * 1024, "100 KiB": 100 * 1024}
PACKAGES = (
    "cffi", "Django", "lmdb", "uWSGI", "diskcache", "pylibmc", "pymemcache", "redis", "hiredis",
    "dogpile.cache", "cashews",
)  # fmt: skip


def key_bytes(number: int) -> bytes:
    return b"shop.Product:42:%04d" % number


def value_of(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def picks(distribution: str, length: int = 4096) -> list[int]:
    """Numbers of keys in the order in which they are asked for; the same ones in every run."""
    rng = random.Random(1)
    if distribution == "uniform":
        return rng.choices(range(KEYS), k=length)
    weights = [1 / rank for rank in range(1, KEYS + 1)]  # zipf(1.0)
    numbers = list(range(KEYS))
    rng.shuffle(numbers)  # the popular ones are not neighbours in memory
    return rng.choices(numbers, weights, k=length)


class Sampler:
    """Times a loop over as many of `items` as fit into `budget` seconds, going on where it was.

    `loop` runs over a list of items. Before each sample a quarter of it runs
    untimed: the contender before has left its own data in the processor's caches.
    """

    def __init__(
        self,
        loop: Callable[[Sequence[Any]], None],
        items: Sequence[Any],
        budget: float,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self.loop = loop
        self.items = list(items) * 2
        self.period = len(items)
        self.budget = budget
        self.prepare = prepare
        self.count = 0
        self.at = 0

    def take(self, count: int) -> Sequence[Any]:
        taken = self.items[self.at : self.at + count]
        self.at = (self.at + count) % self.period
        return taken

    def time(self, count: int) -> float:
        """Nanoseconds for one item."""
        items = self.take(count)
        start = time.perf_counter_ns()
        self.loop(items)
        return (time.perf_counter_ns() - start) / count

    def __call__(self) -> float:
        if not self.count:
            self.time(5)
            fitting = self.budget * 1e9 / max(1.0, self.time(20))
            self.count = min(self.period, max(10, int(fitting)))
        if self.prepare:
            self.prepare()
        self.loop(self.take(self.count // 4))
        return self.time(self.count)


def loop_over(operation: Callable[[Any], Any]) -> Callable[[Sequence[Any]], None]:
    def loop(items: Sequence[Any]) -> None:
        for item in items:
            operation(item)

    return loop


def loop_of_sets(put: Callable[[Any, bytes], Any], value: bytes) -> Callable[[Sequence[Any]], None]:
    def loop(keys: Sequence[Any]) -> None:
        for key in keys:
            put(key, value)

    return loop


def interleave(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The median of each; every round has all of them, shuffled, after one round to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    shuffle = random.Random(1).shuffle
    enabled = gc.isenabled()
    gc.disable()  # a collection would be charged to whoever happens to run
    try:
        for name in order:
            contenders[name]()
        for _ in range(rounds):
            shuffle(order)
            for name in order:
                taken[name].append(contenders[name]())
            gc.collect(0)
    finally:
        if enabled:
            gc.enable()
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
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "load average before": [round(load, 2) for load in os.getloadavg()],
        "python": sys.version.split()[0],
        "kernel": platform.release(),
        "packages": ", ".join(versions),
        "servers": ", ".join(filter(None, map(server_version, ("memcached", "redis-server")))),
    }


def server_version(program: str) -> str:
    if not shutil.which(program):
        return ""
    shown = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    words = [word.removeprefix("v=") for word in shown.split()]
    return f"{program} " + next((word for word in words if word[:1].isdigit()), "")
