"""Miss ratios of the two logs' eviction policy beside LRU, SIEVE and S3-FIFO, by simulation.

    python bench/policy/policy.py [--slots N] [--trace NAME=FILE[:COLUMN]]... [--sensitivity]

The policies are in policy.c, which this compiles with cc (or $CC). All records
have the same size. A policy's capacity is all the space it has for records: the
two logs' old copies take part of theirs. Ghosts are free, here as in S3-FIFO,
but those of the two logs live in the index for only as long as nothing else
takes their word. Misses are counted from the first request, the cold start
included.

The synthetic traces have 2,000,000 requests, for 200,000 keys by Zipf's law.
With scans, each 50,000 such requests are followed by half the capacity of keys
that never come again; they count among the 2,000,000. Of a file given with
--trace, each line is a request: the key is the whole line or, if the file's
name is followed by a colon and a number, that column between commas (from 1);
lines that begin with # are skipped.

Shown are miss ratios, how much more or less the two logs miss than S3-FIFO and
than LRU, and how many records they copy for each 1,000 requests.

The rules, as shares of a log's size:
  a fill goes to probation, or to main if main was never full yet or if the key
  left a ghost; a hit in the older half of probation copies the record to main;
  a hit in the oldest eighth of main copies it to main's head. A word whose
  record was lapped is a ghost for 2 probation sizes or half a main size.
--sensitivity changes one of the numbers at a time.
"""

from __future__ import annotations

import argparse
import array
import ctypes
import multiprocessing
import os
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

EXPONENTS = (0.8, 1.0, 1.2)
CAPACITIES = (2_000, 20_000)
REQUESTS, KEYS, SCAN_EVERY = 2_000_000, 200_000, 50_000
YARDSTICKS = ("lru", "sieve", "s3fifo")


class Rules(ctypes.Structure):
    """See policy.c, which has the same fields in the same order."""

    _fields_ = [
        *((name, ctypes.c_double) for name in ("probation", "slots", "ghosts", "main_ghosts")),
        *((name, ctypes.c_double) for name in ("promote_oldest", "reenter_oldest")),
        *((name, ctypes.c_int32) for name in ("promote_seen", "reenter_seen", "warm")),
        ("rescue_oldest", ctypes.c_double),
    ]


class Counts(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in ("misses", "promoted", "reentered", "rescued", "ghost_hits", "displaced")
    ]


BEST: dict[str, float] = {
    "probation": 1 / 10,
    "promote_oldest": 1 / 2,
    "reenter_oldest": 1 / 8,
    "ghosts": 2,
    "main_ghosts": 1 / 2,
    "warm": 1,
}
CHANGES: list[dict[str, float]] = [
    {},
    *({"slots": slots} for slots in (1, 1.36, 2, 2.7, 4, 8, 80)),
    *({"probation": share, "ghosts": 0.2 / share} for share in (0.05, 0.07, 0.15, 0.2)),
    *({"promote_oldest": part} for part in (0.0, 0.2, 0.35, 0.65, 0.8, 1.0)),
    *({"reenter_oldest": part} for part in (0.0, 0.05, 0.08, 0.2, 0.3, 0.5)),
    *({"ghosts": laps} for laps in (0, 1, 1.5, 3, 5, 9)),
    *({"main_ghosts": laps} for laps in (0, 0.25, 1, 2)),
    {"warm": 0},
    # With a bit in the word that says it was hit before:
    {"promote_seen": 1},
    {"promote_seen": 1, "promote_oldest": 1},
    {"reenter_seen": 1},
    {"rescue_oldest": 0.05},
    {"rescue_oldest": 0.1},
    {"rescue_oldest": 0.1, "slots": 1.36},
]


class Trace(NamedTuple):
    requests: ctypes.Array[ctypes.c_uint32]
    keys: int


class Work(NamedTuple):
    name: str
    trace: Trace
    capacity: int


def compiled() -> ctypes.CDLL:
    source = Path(__file__).with_suffix(".c")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "policy.so")
        command = [os.environ.get("CC", "cc"), "-O2", "-shared", "-fPIC", "-o"]
        subprocess.run([*command, str(library), str(source), "-lm"], check=True)
        lib = ctypes.CDLL(str(library))
    array_type, size, key = ctypes.POINTER(ctypes.c_uint32), ctypes.c_size_t, ctypes.c_uint32
    lib.make_zipf.argtypes = [array_type, size, key, ctypes.c_double, ctypes.c_uint64, size, size]
    lib.make_zipf.restype = key
    for name in YARDSTICKS:
        yardstick = getattr(lib, name)
        yardstick.argtypes = [array_type, size, key, size]
        yardstick.restype = size
    lib.two_logs.argtypes = [
        *(array_type, size, size, ctypes.POINTER(Rules)),
        ctypes.POINTER(Counts),
    ]
    lib.two_logs.restype = None
    return lib


def zipf(lib: ctypes.CDLL, exponent: float, scan_length: int) -> Trace:
    requests = (ctypes.c_uint32 * REQUESTS)()
    seed = 1 << 40  # any number will do, and always the same one for the same figures
    keys = lib.make_zipf(requests, REQUESTS, KEYS, exponent, seed, SCAN_EVERY, scan_length)
    return Trace(requests, keys)


def from_file(path: str) -> Trace:
    name, _, column = path.rpartition(":")
    if not (name and column.isdigit()):
        name, column = path, ""
    numbers: dict[str, int] = {}
    requests = array.array("I")
    with open(name) as lines:
        for line in lines:
            if not line.startswith("#"):
                key = line.split(",")[int(column) - 1] if column else line
                requests.append(numbers.setdefault(key.strip(), len(numbers)))
    return Trace((ctypes.c_uint32 * len(requests)).from_buffer(requests), len(numbers))


def works(lib: ctypes.CDLL, files: list[str]) -> Iterator[Work]:
    for exponent in EXPONENTS:
        plain = zipf(lib, exponent, 0)
        for capacity in CAPACITIES:
            yield Work(f"zipf {exponent} / {capacity:,}", plain, capacity)
    for exponent in EXPONENTS:
        for capacity in CAPACITIES:
            scans = zipf(lib, exponent, capacity // 2)
            yield Work(f"zipf {exponent} + scans / {capacity:,}", scans, capacity)
    for argument in files:
        name, _, path = argument.partition("=")
        trace = from_file(path)
        for capacity in CAPACITIES:
            yield Work(f"{name} / {capacity:,}", trace, capacity)


def simulate(lib: ctypes.CDLL, work: Work, policy: str | dict[str, float]) -> dict[str, float]:
    """What it counts, for each request."""
    requests, keys = work.trace
    if isinstance(policy, str):
        misses = getattr(lib, policy)(requests, len(requests), keys, work.capacity)
        return {"misses": misses / len(requests)}
    rules, counts = Rules(), Counts()
    for name, value in policy.items():
        setattr(
            rules, name, int(value) if name in ("promote_seen", "reenter_seen", "warm") else value
        )
    lib.two_logs(requests, len(requests), work.capacity, rules, counts)
    return {name: getattr(counts, name) / len(requests) for name, _ in Counts._fields_}


# What a worker process inherits: ctypes cannot pickle it, and it is large.
inherited: dict[str, Any] = {}


def simulate_inherited(job: tuple[int, str | dict[str, float]]) -> dict[str, float]:
    number, policy = job
    return simulate(inherited["lib"], inherited["works"][number], policy)


def run(
    pool: Any, policies: list[str | dict[str, float]], number_of_works: int
) -> list[list[dict[str, float]]]:
    """For each policy, what was counted in each of the works."""
    jobs = [(number, policy) for policy in policies for number in range(number_of_works)]
    counted = pool.map(simulate_inherited, jobs, 1)
    return [
        counted[start : start + number_of_works]
        for start in range(0, len(counted), number_of_works)
    ]


def copies(counts: dict[str, float]) -> float:
    return 1_000 * (counts["promoted"] + counts["reentered"] + counts["rescued"])


def more(ours: dict[str, float], theirs: dict[str, float]) -> float:
    """By how many percent our misses are more than theirs."""
    return 100 * (ours["misses"] / theirs["misses"] - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slots", type=float, default=4, help="words of the index for a record")
    parser.add_argument("--trace", action="append", default=[], metavar="NAME=FILE[:COLUMN]")
    parser.add_argument("--sensitivity", action="store_true")
    arguments = parser.parse_args()
    lib = compiled()
    all_works = list(works(lib, arguments.trace))
    inherited.update(lib=lib, works=all_works)
    best = BEST | {"slots": arguments.slots}
    with multiprocessing.get_context("fork").Pool() as pool:
        measure = partial(run, pool, number_of_works=len(all_works))
        lru, sieve, s3fifo, ours = measure([*YARDSTICKS, best])
        width = max(len(work.name) for work in all_works)
        print(f"{arguments.slots:g} words of the index for each record that there is room for\n")
        print(f"{'trace / capacity':<{width}}    LRU  SIEVE S3-FIFO two logs", end="")
        print("  to S3-FIFO  to LRU  copies")
        for work, *rest in zip(all_works, lru, sieve, s3fifo, ours, strict=True):
            a, _, c, d = rest
            ratios = " ".join(f"{counts['misses']:>7.4f}" for counts in rest)
            print(f"{work.name:<{width}} {ratios}", end=" ")
            print(f"{more(d, c):>+11.1f}% {more(d, a):>+7.1f}% {copies(d):>7.1f}")
        if not arguments.sensitivity:
            return
        print("\nto S3-FIFO: median, worst; to LRU: worst; copies: mean; what is changed")
        for change, counted in zip(CHANGES, measure([best | c for c in CHANGES]), strict=True):
            to_s3fifo = [more(d, c) for d, c in zip(counted, s3fifo, strict=True)]
            worst_to_lru = max(more(d, a) for d, a in zip(counted, lru, strict=True))
            worst = max(to_s3fifo)
            what = ", ".join(f"{name} {value:.3g}" for name, value in change.items()) or "nothing"
            print(f"{statistics.median(to_s3fifo):>+5.1f}% {worst:>+5.1f}%", end=" ")
            print(f"{worst_to_lru:>+6.1f}% {statistics.mean(map(copies, counted)):>6.1f}", end="  ")
            print(f"{what} (worst: {all_works[to_s3fifo.index(worst)].name})")


if __name__ == "__main__":
    main()
