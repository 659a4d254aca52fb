"""Operations at the end of the interpreter, across a fork, and within one another by signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from zoocache.shm import MIN_SIZE, Cache, Flight, Landing, Outcome, Segment

SOON = 20  # seconds in which whatever needs none must be over
forks = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

AT_EXIT = """
import atexit, sys, threading
from zoocache.shm import Cache, Segment, Flight
cache = Cache(Segment(sys.argv[1]))
class Late:
    def __init__(self):
        self.cache, self.get, self.set = cache, cache.get, cache.set
    def __del__(self):
        assert self.set("late", b"v", tags=["t"]) == 0 and self.get("late") == b"v"
        self.cache.incr("number")
def seen(get=cache.get, many=cache.get_many, incr=cache.incr):
    assert get("key") == b"v" and many(iter(["key"])) == [b"v"]
    incr("number")
late, also = Late(), [Late()]
sys.modules["late"] = Late()
atexit.register(seen)
def forever(get=cache.get, keys=cache.keys):
    while True:
        get("key"), list(keys())
if sys.argv[2] == "threads":
    waiter = Flight(cache, b"led by the test", 60)
    threading.Thread(target=forever, daemon=True).start()
    threading.Thread(target=waiter.wait, args=(60,), daemon=True).start()
"""


@pytest.mark.parametrize("threads", ["alone", "threads"])
def test_operations_while_the_interpreter_ends(cache: Cache, threads: str) -> None:
    """In finalisers and at exit, with other threads in the middle of theirs."""
    cache.set("key", b"v")
    cache.set("number", b"0")
    leader = Flight(cache, b"led by the test", 60)
    script = [sys.executable, "-X", "dev", "-W", "error", "-c", AT_EXIT]
    for _ in range(3):
        done = subprocess.run(
            [*script, cache.segment.name, threads], capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    leader.end(Landing.FAILED)
    ran = int(cache.get("number") or b"0") // 3  # at exit, and one for each finaliser
    assert ran == 4 if threads == "alone" else ran >= 1  # a thread keeps the module's globals


def exit_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@forks
class TestForks:
    def test_in_the_middle_of_an_operation(self, cache: Cache) -> None:
        """Both ends of the fork finish what was begun, and see each other."""
        cache.set("key", b"v")
        pids: list[int] = []

        def forking(item: Any) -> Iterator[Any]:
            yield item
            pids.append(os.fork())
            yield item

        try:
            found = cache.get_many(forking("key"))
            in_child = pids == [0]
            stored = cache.set("child" if in_child else "parent", b"v", tags=forking("t:1"))
            if 0 in pids:
                good = found == [b"v", b"v"] and stored is Outcome.STORED
                good = good and cache.incr("n") is None and cache.get("key") == b"v"
                good = good and Flight(cache, b"%d" % os.getpid(), SOON).leads
                os._exit(0 if good else 1)
        except BaseException:
            if 0 in pids:
                os._exit(2)
            raise
        assert found == [b"v", b"v"]
        assert [exit_of(pid) for pid in pids] == [0, 0]
        assert cache.get_many(["child", "parent"]) == [b"v", b"v"]
        cache.invalidate("t")
        assert cache.get_many(["child", "parent"]) == [None, None]

    def test_while_threads_are_inside(self, cache: Cache) -> None:
        """The child uses all that they were in the middle of, and waits for none of them."""
        cache.set_many({"key": b"v", "number": b"0"})
        stop = threading.Event()

        def work(use: Callable[[], Any]) -> int:
            n = 0
            while not stop.is_set():
                use()
                n += 1
            return n

        def fly() -> None:
            flight = Flight(cache, b"flight", SOON)
            flight.end(Landing.STORED) if flight.leads else flight.poll(1)

        def in_child(me: int) -> None:
            assert cache.get("key") == b"v"
            cache.incr("number")
            assert cache.set(f"child {me}", b"v") is Outcome.STORED
            assert cache.touch(f"child {me}", ttl=60)
            fly()
            assert b"key" in set(cache.keys())
            assert Cache(Segment(cache.segment.name)).get("key") == b"v"
            assert cache.delete(f"child {me}")

        uses = [lambda: cache.incr("other"), lambda: list(cache.keys()), fly, cache.stats]
        with ThreadPoolExecutor(4) as pool:
            loops = [pool.submit(work, use) for use in uses]
            try:
                for me in range(40):
                    pid = os.fork()
                    if pid == 0:
                        signal.signal(signal.SIGALRM, signal.SIG_DFL)
                        signal.alarm(SOON)
                        with suppress(BaseException):
                            in_child(me)
                            os._exit(0)
                        os._exit(1)
                    assert exit_of(pid) == 0
            finally:
                stop.set()
            assert all(loop.result(SOON) > 0 for loop in loops)
        assert cache.get("number") == b"40"


def test_a_signal_handler_in_the_middle_of_any_operation(segment_name: str) -> None:
    """It comes between C calls and into the waits of those that give the GIL up."""
    cache = Cache(Segment(segment_name, 16 * MIN_SIZE))
    number = 0

    def handler(*_: object) -> None:
        nonlocal number
        number += 1
        mine = f"inner:{number % 50}"  # a handler may be interrupted by itself
        cache.incr("counted")
        cache.set(mine, b"I", tags=[mine])
        assert cache.get_many([mine]) == [b"I"]
        cache.invalidate(mine)
        assert cache.get(mine) is None
        cache.delete(mine)

    cache.set_many({"counted": b"0", "mine": b"0"})
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
    try:
        end = time.monotonic() + SOON
        rounds = 0
        while number < 300 and time.monotonic() < end:
            rounds += 1
            assert cache.incr("mine") == rounds
            cache.set("outer", b"O" * 2000, tags=["outer"])
            assert cache.get("outer") == b"O" * 2000
            assert cache.compare_and_set("outer", b"O" * 2000, b"P")
            assert cache.touch("outer", ttl=60)
            assert {b"outer", b"mine", b"counted"} <= set(cache.keys())
            assert cache.delete("outer")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert number >= 300
    assert cache.get("counted") == b"%d" % number
