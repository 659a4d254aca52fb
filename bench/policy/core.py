"""Miss ratios of the core itself on the traces of policy.py, beside LRU and S3-FIFO.

    python bench/policy/core.py [--record BYTES] [--trace NAME=FILE[:COLUMN]]...

Every request is a get of a real segment, and on a miss a set; all records take
RECORD bytes. The segments are as large as the capacities want, and the others
are simulated at the capacity that the segment's logs then have. The index is
the segment's own: about 1.6 words for each record of 256 bytes, 3 of 512.
"simulated" is policy.py's model of the same rules. With --trace, as policy.py has it,
the files given are what is asked for, and not zipf.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from typing import Any

from policy import (
    BEST,
    CAPACITIES,
    EXPONENTS,
    Trace,
    Work,
    compiled,
    from_file,
    more,
    simulate,
    zipf,
)  # fmt: skip

from zoocache.shm import MIN_SIZE, Cache, Segment, unlink

GRAIN = 64 * 1024  # bytes: logs and segments are made of as many
HEAD = 40  # bytes of a record beside its value: 32, and a key of 8


def log_bytes(segment: Segment) -> int:
    """Both logs: probation is a tenth of the room, rounded up; a record is an eighth of main."""
    main = segment.max_record * 8
    probation = GRAIN
    while probation * 10 < main + probation:
        probation += GRAIN
    return main + probation


def misses(requests: Trace, segment: Segment, record: int) -> float:
    """For each request."""
    cache = Cache(segment)
    value = b"v" * (record - HEAD)
    get, put = cache.get, cache.set
    missed = 0
    for number in requests.requests:
        key = b"%08x" % number
        if get(key) is None:
            missed += 1
            put(key, value)
    return missed / len(requests.requests)


def cases(lib: Any, files: list[str]) -> Iterator[tuple[str, int, Callable[[int], Trace]]]:
    """What is asked for: a name, the records that are to fit, and the trace for a capacity."""
    for given in files:
        name, path = given.split("=", 1)
        trace = from_file(path)
        for wanted in CAPACITIES:
            yield name, wanted, lambda capacity, trace=trace: trace  # type: ignore[misc]
    for exponent in EXPONENTS if not files else ():
        for wanted in CAPACITIES:
            for scans in (0, 1):
                yield (
                    f"zipf {exponent}{' + scans' if scans else ''}", wanted,
                    lambda capacity, n=exponent, scans=scans: zipf(lib, n, scans * capacity // 2),
                )  # type: ignore[misc] # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", type=int, default=256, help="bytes, a multiple of 16")
    parser.add_argument("--trace", action="append", default=[], metavar="NAME=FILE[:COLUMN]")
    arguments = parser.parse_args()
    record = arguments.record
    lib = compiled()
    print(f"records of {record} bytes\n")
    print(f"{'trace / capacity':<28}    LRU S3-FIFO simulated  core  to S3-FIFO  to LRU")
    for case, wanted, trace_for in cases(lib, arguments.trace):
        size = max(MIN_SIZE, int(wanted * record * 1.09) + 4 * GRAIN)
        name = f"policy-{os.getpid()}"
        try:
            segment = Segment(name, size // GRAIN * GRAIN)
            capacity = log_bytes(segment) // record
            trace = trace_for(capacity)
            measured = {"misses": misses(trace, segment, record)}
        finally:
            unlink(name)
        label = f"{case} / {capacity:,}"
        work = Work(label, trace, capacity)
        lru, s3fifo = (simulate(lib, work, policy) for policy in ("lru", "s3fifo"))
        words = {256: 1.6, 512: 3.2}.get(record, 4)
        ours = simulate(lib, work, BEST | {"slots": words})
        ratios = " ".join(f"{c['misses']:>7.4f}" for c in (lru, s3fifo, ours, measured))
        ratio = f"{more(measured, s3fifo):>+9.1f}% {more(measured, lru):>+7.1f}%"
        print(f"{label:<28} {ratios} {ratio}", flush=True)


if __name__ == "__main__":
    main()
