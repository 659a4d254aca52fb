"""Eight processes create one segment at the same moment, many times over.

    python creators.py SEGMENT ROUNDS

Each round, each process opens the name at a starting signal, stores a key of
its own, and, when all have, looks for the keys of all. Prints "ok ROUNDS".
"""

from __future__ import annotations

import mmap
import os
import sys

from zoocache.shm import MIN_SIZE, Cache, Segment, unlink

PROCESSES = 8


def wait_for(flags: mmap.mmap, start: int, end: int) -> None:
    while any(not flag for flag in flags[start:end]):
        os.sched_yield()


def one(name: str, me: int, flags: mmap.mmap) -> None:
    """Flags: 0 the signal, then 8 "ready", then 8 "stored"."""
    flags[1 + me] = 1
    wait_for(flags, 0, 1)
    cache = Cache(Segment(name, MIN_SIZE * (1 + me % 3)))
    cache.set(f"key {me}", b"%d" % me)
    flags[1 + PROCESSES + me] = 1
    wait_for(flags, 1 + PROCESSES, 1 + 2 * PROCESSES)
    found = [cache.get(f"key {other}") for other in range(PROCESSES)]
    assert found == [b"%d" % other for other in range(PROCESSES)], found


def main(name: str, rounds: int) -> None:
    for _ in range(rounds):
        unlink(name)
        flags = mmap.mmap(-1, 1 + 2 * PROCESSES)
        pids = []
        for me in range(PROCESSES):
            if (pid := os.fork()) == 0:
                try:
                    one(name, me, flags)
                    os._exit(0)
                except BaseException as error:
                    print(f"process {me}: {error!r}", file=sys.stderr, flush=True)
                    os._exit(1)
            pids.append(pid)
        wait_for(flags, 1, 1 + PROCESSES)
        flags[0] = 1
        statuses = [os.waitpid(pid, 0)[1] for pid in pids]
        assert statuses == [0] * PROCESSES, statuses
        assert Segment(name).check().sound
    print("ok", rounds)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
