"""What no get can go below: the ways of Python into C, and copies of that many bytes.

Each floor is a loop over the same keys as the contenders' loops, so that both
pay for the loop. A function of the core that is not there (it changes with the
core) leaves its floor out.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable, Sequence

from peers import TAG, room_for
from servers import Place
from timing import KEYS, Sampler, key_bytes, value_of

from zoocache.shm import Cache, Segment
from zoocache.shm._core import ffi, lib

CALL = "floor: empty cffi call"
UNPACK = "floor: empty call + unpack"
UNPACK_3 = "floor: empty call, 3 arguments, + unpack"
COPY = "floor: bytes(memoryview)"
PLACES = "floor: slice of an mmap, at the key's place"
C_GET = "floor: the C get alone, in a loop in C"


def floors(place: Place, picks: Sequence[int], budget: float) -> dict[str, Callable[[], float]]:
    size = place.size
    keys = [key_bytes(number) for number in picks]
    memory = ffi.new("char[]", value_of(size))
    view = memoryview(ffi.buffer(memory, size))
    shared = mmap.mmap(-1, KEYS * size)
    shared[:] = value_of(size) * KEYS
    starts = [number * size for number in picks]
    empty, unpack = lib.zoo_empty, ffi.unpack
    nothing, null = lib.zoo_nothing, ffi.NULL

    def calls(keys: Sequence[bytes]) -> None:
        for _key in keys:
            empty()

    def unpacks(keys: Sequence[bytes]) -> None:
        for _key in keys:
            empty()
            unpack(memory, size)

    def unpacks_of_three(keys: Sequence[bytes]) -> None:
        for key in keys:
            nothing(null, key, len(key))
            unpack(memory, size)

    def copies(keys: Sequence[bytes]) -> None:
        for _key in keys:
            bytes(view)

    def slices(starts: Sequence[int]) -> None:
        for start in starts:
            shared[start : start + size]

    made: dict[str, Callable[[], float]] = {
        CALL: Sampler(calls, keys, budget),
        UNPACK: Sampler(unpacks, keys, budget),
        UNPACK_3: Sampler(unpacks_of_three, keys, budget),
        COPY: Sampler(copies, keys, budget),
        PLACES: Sampler(slices, starts, budget),
    }
    if hasattr(lib, "zoo_get_loop"):
        made[C_GET] = c_gets(place)
    return made


def c_gets(place: Place, times: int = 5_000) -> Callable[[], float]:
    """All keys in turn, each get into the same buffer."""
    cache = Cache(Segment(place.segment + "-c", room_for(place.size)))
    names = [key_bytes(number) for number in range(KEYS)]
    for name in names:
        cache.set(name, value_of(place.size), tags=[TAG])
    keys = b"".join(names)
    value = ffi.new("char[]", place.size)
    handle, loop = cache.segment.handle, lib.zoo_get_loop

    def run() -> float:
        loop(handle, keys, len(names[0]), KEYS, value, place.size, 50)
        start = time.perf_counter_ns()
        hits = loop(handle, keys, len(names[0]), KEYS, value, place.size, times)
        taken = time.perf_counter_ns() - start
        assert hits == times
        return taken / times

    return run
