"""What operations leave behind, and what they outlive: references, memory, caches.

The hot operations are built-in functions with a reference to their segment. There is no close:
the mapping goes with the last reference, so that nothing can be used after it.
"""

from __future__ import annotations

import copy
import gc
import os
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from zoocache.exceptions import SegmentRetiredError
from zoocache.shm import MIN_SIZE, Cache, Flight, Landing, Outcome, Segment, path_of, unlink

SOON = 20  # seconds in which whatever needs none must be over
DOOR = ["get", "_find", "get_many", "set", "fill", "add", "replace", "set_many", "invalidate"]

KEY, TEXT, VALUE = b"key that is new", "schlüssel", bytes(range(250))
TAGS = ("Product:1", "Shop:ä")
MANY = [f"tag {n}" for n in range(500)]  # more than have room on the C stack
OVER = bytes(MIN_SIZE)


def bad_tags() -> Iterator[str]:
    yield from MANY
    yield "a::b"


def failing() -> Iterator[str]:
    yield from MANY
    raise LookupError


# Calls that succeed and calls that fail, at each step that holds something.
CALLS: dict[str, Callable[[Cache], Any]] = {
    "get": lambda c: c.get(KEY),
    "get text": lambda c: c.get(TEXT),
    "get surrogate": lambda c: c.get("\ud800"),
    "get copied": lambda c: c.get(bytearray(KEY)),
    "get nothing": lambda c: c.get("nothing"),
    "get badly": lambda c: c.get(5),
    "get too long": lambda c: c.get(bytearray(1025)),
    "find": lambda c: c.get_with_deps(KEY),
    "find badly": lambda c: c._find(KEY, -1),
    "find with too little": lambda c: c._find(KEY),
    "get_many": lambda c: c.get_many([KEY, TEXT, "nothing", bytearray(KEY)]),
    "get_many badly": lambda c: c.get_many([KEY, TEXT, bytearray(KEY), 5]),
    "get_many failing": lambda c: c.get_many(failing()),
    "set": lambda c: c.set(KEY, VALUE, ttl=60.5, tags=TAGS),
    "set copies": lambda c: c.set(bytearray(KEY), memoryview(VALUE), tags=iter(TAGS)),
    "set many tags": lambda c: c.set(TEXT, VALUE, tags=MANY),
    "set too large": lambda c: c.set(TEXT, OVER, tags=MANY),
    "set bad key": lambda c: c.set(bytearray(), bytearray(b"v"), tags=MANY),
    "set bad value": lambda c: c.set(KEY, "v", tags=MANY),
    "set bad tag": lambda c: c.set(KEY, VALUE, tags=bad_tags()),
    "set failing tags": lambda c: c.set(KEY, VALUE, tags=failing()),
    "set bad ttl": lambda c: c.set(KEY, VALUE, tags=MANY, ttl="5"),
    "set bad option": lambda c: c.set(KEY, VALUE, tags=MANY, timeout=5),
    "set too little": lambda c: c.set(KEY, tags=MANY),
    "fill": lambda c: c.fill(KEY, VALUE, c.stamp(), tags=MANY, deps=bytes(range(80))),
    "fill no stamp": lambda c: c.fill(KEY, VALUE, -1, tags=MANY),
    "fill bad deps": lambda c: c.fill(KEY, VALUE, 1, tags=MANY, deps="12345678"),
    "add": lambda c: (c.delete(KEY), c.add(KEY, VALUE, tags=MANY)),
    "add to one": lambda c: c.add(KEY, VALUE, tags=MANY),
    "replace": lambda c: c.replace(KEY, VALUE, tags=MANY),
    "replace nothing": lambda c: c.replace("nothing", VALUE, tags=MANY),
    "set_many": lambda c: c.set_many({KEY: VALUE, TEXT: VALUE}, tags=MANY),
    "set_many too large": lambda c: c.set_many({KEY: VALUE, TEXT: OVER}, tags=MANY),
    "set_many badly": lambda c: c.set_many({KEY: VALUE, TEXT: OVER, 5: VALUE}, tags=MANY),
    "set_many bad tag": lambda c: c.set_many({KEY: VALUE}, tags=bad_tags()),
    "set_many of no dict": lambda c: c.set_many(5),
    "invalidate": lambda c: c.invalidate(*TAGS, *MANY),
    "invalidate badly": lambda c: c.invalidate(*MANY, "a::b"),
    "touch": lambda c: c.touch(KEY, ttl=60),
    "incr": lambda c: (c.set("n", b"1"), c.incr("n")),
    "incr badly": lambda c: c.incr(KEY),
    "compare_and_set": lambda c: c.compare_and_set(KEY, VALUE, VALUE),
    "delete": lambda c: c.delete(KEY),
    "keys": lambda c: list(c.keys()),
    "keys given up": lambda c: next(c.keys(), None),
    "stats": lambda c: c.stats(),
}  # fmt: skip


def resident() -> int:
    """Bytes of this process in memory that are its own."""
    fields = Path("/proc/self/statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")


class TestNothingIsLeft:
    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_references(self, cache: Cache, call: Callable[[Cache], Any]) -> None:
        """To arguments, results, and to what the functions share."""
        shared = [cache, cache.segment, cache.get, cache.get.__self__, Outcome, *Outcome]
        given = [KEY, TEXT, VALUE, TAGS, TAGS[0], MANY, MANY[7], OVER]
        holders = [*shared, *given, None, True, False, LookupError, dict]
        cache.set_many({KEY: VALUE, TEXT: VALUE}, tags=["kept"])
        for n in range(20 + 300):
            if n == 20:
                before = [sys.getrefcount(holder) for holder in holders]
            with suppress(LookupError, TypeError, ValueError, OverflowError):
                call(cache)
        after = [sys.getrefcount(holder) for holder in holders]
        # A few of another thread's, or of a counter's, would be no leak.
        assert [a - b for a, b in zip(after, before, strict=True) if abs(a - b) > 50] == []

    def test_blocks_of_python(self, cache: Cache) -> None:
        """Of what one call allocates, not one block in twenty may stay."""
        cache.set_many({KEY: VALUE, TEXT: VALUE})
        leaks = {}
        for name, call in CALLS.items():
            for n in range(5 + 200):
                if n == 5:
                    gc.collect()
                    before = sys.getallocatedblocks()
                with suppress(LookupError, TypeError, ValueError, OverflowError):
                    call(cache)
            gc.collect()
            left = sys.getallocatedblocks() - before
            if left > 10:
                leaks[name] = left
        assert leaks == {}

    def test_memory(self, cache: Cache) -> None:
        """Nor of what C allocates by itself: the hashes of 500 tags are 4 KiB and more a call."""
        cache.set_many({KEY: VALUE, TEXT: VALUE})
        leaks = {}
        large = [name for name, call in CALLS.items() if name not in ("keys", "keys given up")]
        for name in large:
            for n in range(20 + 400):
                if n == 20:
                    before = resident()
                with suppress(LookupError, TypeError, ValueError, OverflowError):
                    CALLS[name](cache)
            if (grown := resident() - before) > 1 << 20:
                leaks[name] = grown
        assert leaks == {}

    def test_of_a_batch_by_tracemalloc(self, cache: Cache) -> None:
        items = {f"key {n}": bytes(100) for n in range(200)}
        tracemalloc.start()
        try:
            for n in range(60):
                if n == 10:
                    before = tracemalloc.get_traced_memory()[0]
                cache.set_many(items, ttl=60, tags=TAGS)
                cache.get_many(items)
                with pytest.raises(ValueError, match="a key is bytes"):
                    cache.get_many([*items, None])
                with pytest.raises(TypeError, match="a value is bytes"):
                    cache.set_many({**items, "last": None})
            assert tracemalloc.get_traced_memory()[0] - before < 20_000
        finally:
            tracemalloc.stop()

    def test_no_cycles(self, segment_name: str) -> None:
        """A cache that is dropped is gone at once, with its mapping: no collector is needed."""
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for _ in range(50):
                cache = Cache(Segment(segment_name, MIN_SIZE))
                for call in CALLS.values():
                    with suppress(LookupError, TypeError, ValueError, OverflowError):
                        call(cache)
                dead = weakref.ref(cache), weakref.ref(cache.segment)
                assert mapped(segment_name) == 1
                del cache
                assert [ref() for ref in dead] == [None, None]
                assert mapped(segment_name) == 0
            gc.collect()
            ours = [o for o in gc.garbage if isinstance(o, Cache | Segment | Outcome)]
            assert ours == []
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()


def mapped(name: str) -> int:
    """How many handles have that segment mapped: each has its header once."""
    maps = (line.split() for line in Path("/proc/self/maps").read_text().splitlines())
    return sum(line[5:6] == [path_of(name)] and int(line[2], 16) == 0 for line in maps)


class TestOutliving:
    @pytest.mark.parametrize("name", DOOR)
    def test_a_function_outlives_its_cache_and_its_segment(self, segment_name: str, name: str):
        cache = Cache(Segment(segment_name, MIN_SIZE))
        cache.set("key", b"v", tags=["t"])
        arguments: dict[str, tuple[Any, ...]] = {
            "get": ("key",), "_find": ("key", 0), "get_many": (["key"],), "set": ("key", b"w"),
            "fill": ("key", b"w", cache.stamp()), "add": ("key", b"w"), "replace": ("key", b"w"),
            "set_many": ({"key": b"w"},), "invalidate": ("t",),
        }  # fmt: skip
        function = getattr(cache, name)
        expected = getattr(Cache(Segment(segment_name)), name)(*arguments[name])
        dead = weakref.ref(cache)
        del cache
        gc.collect()
        assert dead() is None
        for _ in range(100):
            function(*arguments[name])
        if name in ("get", "_find", "get_many"):
            assert function(*arguments[name]) == expected
        unlink(segment_name)
        Segment(segment_name, 2 * MIN_SIZE)  # and another has its name
        if name in ("get", "_find"):
            assert function(*arguments[name]) is None
        elif name == "get_many":
            assert function(*arguments[name]) == [None]
        elif name == "fill":
            assert function(*arguments[name]) is Outcome.RETIRED
        else:
            with pytest.raises(SegmentRetiredError, match="open it again"):
                function(*arguments[name])
        del function
        gc.collect()
        assert mapped(segment_name) == 0

    def test_an_iteration_and_a_flight_outlive_their_cache(self, segment_name: str) -> None:
        cache = Cache(Segment(segment_name, MIN_SIZE))
        cache.set_many({b"%1024d" % n: b"" for n in range(200)})
        keys, leader = cache.keys(), Flight(cache, b"key", SOON)
        waiter = Flight(cache, b"key", SOON)
        next(keys)
        del cache
        gc.collect()
        assert len(list(keys)) == 199
        assert waiter.poll() is None
        leader.end(Landing.UNSTORED)
        assert waiter.poll() is Landing.UNSTORED

    def test_a_copy_is_the_same_cache(self, cache: Cache) -> None:
        cache.set("key", b"v")
        other = copy.copy(cache)
        assert other.get("key") == b"v"
        assert other.delete("key")
        assert cache.get("key") is None

    def test_dropped_while_threads_are_inside(self, segment_name: str) -> None:
        """Each has a function or a flight in hand; the last one to end closes the segment."""
        cache = Cache(Segment(segment_name, MIN_SIZE))
        cache.set("key", b"v")
        leader = Flight(cache, b"flight", 60)
        waiters = [Flight(cache, b"flight", 60) for _ in range(3)]
        stop, inside = threading.Event(), threading.Barrier(9 + 1)

        def loop(use: Callable[[], Any]) -> int:
            inside.wait(SOON)
            n = 0
            while not stop.is_set():
                use()
                n += 1
            return n

        def wait(flight: Flight) -> Landing | None:
            inside.wait(SOON)
            return flight.wait(SOON)

        with ThreadPoolExecutor(9) as pool:
            uses: list[Callable[[], Any]] = [
                lambda get=cache.get: get("key"),
                lambda set=cache.set: set("key", b"v"),
                lambda many=cache.get_many: many(["key"] * 50),
                lambda keys=cache.keys: list(keys()),
                lambda incr=cache.incr: incr("number"),
                lambda touch=cache.touch: touch("key"),
            ]
            loops = [pool.submit(loop, use) for use in uses]
            waits = [pool.submit(wait, flight) for flight in waiters]
            del cache, uses
            inside.wait(SOON)
            for _ in range(20):
                gc.collect()
            leader.end(Landing.STORED)
            assert [done.result(SOON) for done in waits] == [Landing.STORED] * 3
            stop.set()
            assert all(done.result(SOON) > 0 for done in loops)
        del loops, waits, waiters, leader, wait, loop
        gc.collect()
        assert mapped(segment_name) == 0
