"""What two processes on two cores get done, beside one: reads, and 90 reads to 10 writes.

The floor shows what the machine has to give: where two loops that share
nothing are not twice as fast as one, the cores are not two. The servers of
memcached and Redis run on the same cores as their clients.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import statistics
import time
from collections.abc import Iterable, Sequence
from typing import Any

import floors
from peers import Peer, open_peers
from servers import Place
from timing import picks, value_of

from zoocache.shm._core import ffi, lib

READS, MIXED = "reads", "90/10"
SECONDS = 0.12
BATCH = 100


class Floor(Peer):
    name = floors.UNPACK
    keys_are = bytes

    def __init__(self, place: Place) -> None:
        memory = ffi.new("char[]", place.size)
        empty, unpack, size = lib.zoo_empty, ffi.unpack, place.size

        def get(key: bytes) -> bytes:
            empty()
            return unpack(memory, size)  # type: ignore[no-any-return]

        self.get = get
        self.set = lambda key, value: None


def reads(peer: Peer, keys: Sequence[Any], seconds: float) -> float:
    """Operations a second."""
    get, done, clock = peer.get, 0, time.perf_counter
    start = clock()
    while clock() - start < seconds:
        at = done % (len(keys) - BATCH)
        for key in keys[at : at + BATCH]:
            get(key)
        done += BATCH
    return done / (clock() - start)


def reads_and_writes(peer: Peer, keys: Sequence[Any], seconds: float, value: bytes) -> float:
    get, put, done, clock = peer.get, peer.set, 0, time.perf_counter
    start = clock()
    while clock() - start < seconds:
        at = done % (len(keys) - BATCH)
        for first in range(at, at + BATCH, 10):
            put(keys[first], value)
            for key in keys[first + 1 : first + 10]:
                get(key)
        done += BATCH
    return done / (clock() - start)


def work(kind: type[Peer], place: Place, core: int, orders: Any) -> None:
    """A worker: bound to a core, told what to do and when to begin."""
    os.sched_setaffinity(0, {core})
    gc.disable()
    [peer] = open_peers(place, [kind], {})
    chosen = picks("zipf")
    rng = random.Random(core)
    rng.shuffle(chosen)  # two processes do not ask for the same key at the same time
    names = peer.keys()
    keys = [names[number] for number in chosen]
    value = value_of(place.size)
    while (order := orders.recv()) is not None:
        mix, begin = order
        time.sleep(max(0.0, begin - time.monotonic()))
        if mix == READS:
            orders.send(reads(peer, keys, SECONDS))
        else:
            orders.send(reads_and_writes(peer, keys, SECONDS, value))
    peer.close()
    os._exit(0)  # inside uWSGI, too: nothing of the parent's is to be run down here


class Pair:
    """Two workers of one contender."""

    def __init__(self, kind: type[Peer], place: Place, cores: Sequence[int]) -> None:
        context = multiprocessing.get_context("fork")
        self.pipes = []
        self.workers = []
        for core in cores:
            ours, theirs = context.Pipe()
            worker = context.Process(target=work, args=(kind, place, core, theirs), daemon=True)
            worker.start()
            theirs.close()
            self.pipes.append(ours)
            self.workers.append(worker)

    def run(self, mix: str, which: Sequence[int]) -> float:
        """Operations a second of all that run."""
        begin = time.monotonic() + 0.005
        for index in which:
            self.pipes[index].send((mix, begin))
        return sum(self.pipes[index].recv() for index in which)

    def end(self) -> None:
        for pipe, worker in zip(self.pipes, self.workers, strict=True):
            pipe.send(None)
            worker.join(5)
            pipe.close()


def measure(
    place: Place, kinds: Iterable[type[Peer]], missing: dict[str, str], rounds: int
) -> dict[str, dict[str, dict[str, float]]]:
    """For each mix and contender: operations a second of one process and of two, and the ratio."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        missing["two processes"] = "this machine has one core"
        return {}
    pairs = {}
    for kind in kinds:
        opened = open_peers(place, [kind], missing)
        for peer in opened:
            peer.fill(value_of(place.size))
            peer.close()
            del peer
            pairs[kind.name] = Pair(kind, place, cores)
        opened.clear()
    rates: dict[tuple[str, str], list[tuple[float, float]]] = {}
    jobs = [(mix, name) for mix in (READS, MIXED) for name in pairs]
    shuffle = random.Random(2).shuffle
    for _ in range(rounds):
        shuffle(jobs)
        for mix, name in jobs:
            # One is the mean of both cores, taken on both sides of the two.
            first = pairs[name].run(mix, [0])
            both = pairs[name].run(mix, [0, 1])
            last = pairs[name].run(mix, [1])
            rates.setdefault((mix, name), []).append(((first + last) / 2, both))
    for pair in pairs.values():
        pair.end()
    return {
        mix: {
            name: {
                "one": statistics.median(one for one, _ in rates[mix, name]),
                "two": statistics.median(two for _, two in rates[mix, name]),
                "ratio": statistics.median(two / one for one, two in rates[mix, name]),
            }
            for name in pairs
        }
        for mix in (READS, MIXED)
    }
