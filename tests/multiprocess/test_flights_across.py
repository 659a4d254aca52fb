"""Flights across processes, forked and spawned: one of them computes, the others wait for it.

Where a test waits for nothing, `wait` is a minute, so that somebody who waits for a leader in
vain is noticed. See callers.py for what callers tell.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from callers import LONG, SOON, Caller

from zoocache.shm import MIN_SIZE, Cache, Flight, Landing, Segment

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


@pytest.fixture(scope="module")
def crew() -> Iterator[list[Caller]]:
    crew: list[Caller] = []
    yield crew
    for caller in crew:
        caller.end()


@pytest.fixture
def name(short_name: str) -> str:
    return short_name


@pytest.fixture
def target(name: str) -> Cache:
    return Cache(Segment(name, 2 * MIN_SIZE))


@pytest.fixture
def callers(
    crew: list[Caller], name: str, target: Cache, request: pytest.FixtureRequest
) -> Iterator[list[Caller]]:
    """Two that were forked and two that were spawned; those of a test that failed are ended."""
    for how in ("fork", "spawn"):
        for _ in range(2 - sum(caller.how == how for caller in crew)):
            crew.append(Caller(how))
    for caller in crew:
        caller.tell("configure", {"name": name, "size": 2 * MIN_SIZE})
    assert [caller.hear() for caller in crew] == [("configured",)] * 4
    used = crew[:]
    crew.clear()
    good = []
    try:
        yield used
        good = [caller for caller in used if caller.process.is_alive() and caller.is_silent()]
    finally:
        for caller in used:
            if caller in good:
                crew.append(caller)
            else:
                caller.end()


def led_by(callers: list[Caller], how: str) -> tuple[Caller, list[Caller]]:
    """One of that kind computes, and all others have begun to wait for it."""
    leader = next(caller for caller in callers if caller.how == how)
    others = [caller for caller in callers if caller is not leader]
    leader.call()
    assert leader.hear() == ("computing",)
    for other in others:
        other.call()
    assert [other.hear() for other in others] == [("waiting",)] * len(others)
    return leader, others


def next_leader(callers: list[Caller]) -> tuple[Caller, list[Caller]]:
    """One of those that waited computes, and the others wait once more."""
    told = {caller: caller.hear() for caller in callers}
    assert sorted(told.values()) == [("computing",)] + [("waiting",)] * (len(callers) - 1)
    leader = next(caller for caller in callers if told[caller] == ("computing",))
    return leader, [caller for caller in callers if caller is not leader]


def heard(callers: list[Caller]) -> list[tuple[Any, ...]]:
    return [caller.hear() for caller in callers]


def flights(cache: Cache) -> tuple[int, int, int]:
    stats = cache.stats()
    return stats["led"], stats["waited"], stats["overtaken"]


both = pytest.mark.parametrize("how", ["fork", "spawn"])


@both
def test_one_computes_for_the_host(callers: list[Caller], target: Cache, how: str) -> None:
    leader, others = led_by(callers, how)
    assert all(other.is_silent() for other in others)
    leader.go_on("return", "value")
    assert heard(callers) == [("returned", "value")] * 4
    assert flights(target) == (1, 3, 0)
    for caller in callers:  # nobody computes any more
        caller.call()
    assert heard(callers) == [("returned", "value")] * 4
    assert target.segment.check().flights_taken == 0


def test_other_keys_are_computed_at_the_same_time(callers: list[Caller], target: Cache) -> None:
    for n, caller in enumerate(callers):
        caller.call(n)
    assert heard(callers) == [("computing",)] * 4
    for n, caller in enumerate(callers):
        caller.go_on("return", n)
    assert heard(callers) == [("returned", n) for n in range(4)]


@both
def test_a_leader_that_is_killed(callers: list[Caller], target: Cache, how: str) -> None:
    """Soon after, long before `wait` is over, one of those that wait computes for the others."""
    leader, others = led_by(callers, how)
    leader.kill()
    second, rest = next_leader(others)
    second.kill()  # and once more
    third, last = next_leader(rest)
    third.go_on("return", "value")
    assert heard([third, *last]) == [("returned", "value")] * 2
    assert flights(target)[2] == 2


@both
def test_a_leader_that_is_stopped(callers: list[Caller], target: Cache, how: str) -> None:
    """It is overtaken when its own `wait` is over; what it has then comes too late."""
    began = time.monotonic()
    leader = next(caller for caller in callers if caller.how == how)
    others = [caller for caller in callers if caller is not leader]
    leader.call(wait=2, deps=["Product"])
    assert leader.hear() == ("computing",)
    leader.kill(signal.SIGSTOP)
    try:
        target.invalidate("Product")
        for other in others:
            other.call(deps=["Product"])
        assert heard(others) == [("waiting",)] * 3
        second, _ = next_leader(others)
        assert 2 <= time.monotonic() - began < SOON
        second.go_on("return", "in time")
        assert heard(others) == [("returned", "in time")] * 3
    finally:
        leader.kill(signal.SIGCONT)
    leader.go_on("return", "late")
    assert leader.hear() == ("returned", "late")
    for caller in callers:
        caller.call(deps=["Product"])
    assert heard(callers) == [("returned", "in time")] * 4
    assert flights(target)[2] == 1


@both
def test_a_leader_that_raises(callers: list[Caller], target: Cache, how: str) -> None:
    leader, others = led_by(callers, how)
    leader.go_on("raise", "the leader's own")
    assert leader.hear() == ("raised", "the leader's own")
    second, _ = next_leader(others)
    second.go_on("return", "value")
    assert heard(others) == [("returned", "value")] * 3
    assert flights(target)[2] == 0


class TestGrace:
    """Of a value that lives for 10 s and is served for 20 s more, 15 s after it was stored."""

    OPTIONS = {"ttl": 10, "grace": 20, "deps": ["Product"]}

    def expired(self, callers: list[Caller]) -> None:
        callers[0].call(**self.OPTIONS)
        assert callers[0].hear() == ("computing",)
        callers[0].go_on("return", "first")
        assert callers[0].hear() == ("returned", "first")
        for caller in callers:
            caller.tell("shift_time", 15)
        assert heard(callers) == [("shifted",)] * 4

    @both
    def test_it_is_served_while_one_computes(self, callers: list[Caller], how: str) -> None:
        self.expired(callers)
        leader = next(caller for caller in callers if caller.how == how)
        others = [caller for caller in callers if caller is not leader]
        leader.call(**self.OPTIONS)
        assert leader.hear() == ("computing",)
        for _ in range(5):
            for other in others:
                other.call(**self.OPTIONS)
            assert heard(others) == [("returned", "first")] * 3
        leader.go_on("return", "second")
        assert leader.hear() == ("returned", "second")
        for caller in callers:
            caller.call(**self.OPTIONS)
        assert heard(callers) == [("returned", "second")] * 4

    @both
    def test_once_invalidated_never(self, callers: list[Caller], how: str) -> None:
        """Nor what somebody has begun to compute before."""
        self.expired(callers)
        leader = next(caller for caller in callers if caller.how == how)
        others = [caller for caller in callers if caller is not leader]
        leader.call(**self.OPTIONS)
        assert leader.hear() == ("computing",)
        others[0].tell("invalidate", "Product")
        assert others[0].hear() == ("invalidated",)
        for other in others:
            other.call(**self.OPTIONS)
        assert heard(others) == [("waiting",)] * 3
        leader.go_on("return", "second")
        assert leader.hear() == ("returned", "second")
        assert heard(others) == [("computing",)] * 3  # at once: nobody stands in line
        for other in others:
            other.go_on("return", "third")
        assert heard(others) == [("returned", "third")] * 3
        leader.call(**self.OPTIONS)
        assert leader.hear() == ("returned", "third")

    def test_of_a_leader_that_dies_another_takes_over(self, callers: list[Caller]) -> None:
        self.expired(callers)
        first, second, *others = callers
        first.call(**self.OPTIONS)
        assert first.hear() == ("computing",)
        second.call(**self.OPTIONS)
        assert second.hear() == ("returned", "first")
        first.kill()
        first.process.join()
        second.call(**self.OPTIONS)
        assert second.hear() == ("computing",)
        for other in others:
            other.call(**self.OPTIONS)
        assert heard(others) == [("returned", "first")] * 2
        second.go_on("return", "second")
        assert second.hear() == ("returned", "second")


@pytest.mark.parametrize("end", ["returns", "dies"])
def test_a_task_leads_and_threads_of_other_processes_wait(
    callers: list[Caller], target: Cache, end: str
) -> None:
    """Threads that run tasks of their own, and threads that sleep in the core."""
    leader, other, sleeping, _ = callers
    leader.tell("tasks_in_threads", 1, 1, {"wait": LONG})
    assert leader.hear() == ("computing",)
    other.tell("tasks_in_threads", 4, 1, {"wait": LONG})
    assert [other.hear() for _ in range(4)] == [("waiting",)] * 4
    assert target.segment.check().flights_taken == 1
    if end == "dies":
        leader.kill()
        told = sorted(other.hear() for _ in range(4))
        assert told == [("computing",)] + [("waiting",)] * 3
        other.go_on("return", "value")
        assert [other.hear() for _ in range(4)] == [("returned", "value")] * 4
    else:
        leader.go_on("return", "value")
        assert leader.hear() == ("returned", "value")
        assert [other.hear() for _ in range(4)] == [("returned", "value")] * 4
    (entry,) = target.keys()
    target.delete(entry)
    other.tell("tasks_in_threads", 1, 1, {"wait": LONG})
    assert other.hear() == ("computing",)
    sleeping.tell("wait_in_threads", 4, entry)
    assert [sleeping.hear() for _ in range(4)] == [("waiting",)] * 4
    other.go_on("return", "value")
    assert other.hear() == ("returned", "value")
    assert [sleeping.hear() for _ in range(4)] == [("landed", Landing.STORED, True)] * 4


def entry_of_a_key(target: Cache, caller: Caller, n: int) -> bytes:
    """The entry that a call with `n` makes."""
    caller.call(n)
    assert caller.hear() == ("computing",)
    caller.go_on("return", "value")
    assert caller.hear() == ("returned", "value")
    (entry,) = target.keys()
    target.delete(entry)
    return entry


def test_without_room_for_a_flight_all_compute_and_nobody_waits(
    callers: list[Caller], target: Cache
) -> None:
    """And when who had taken all the room is dead, one computes again."""
    full, first, *others = callers
    full.tell("lead_all")
    told, taken = full.hear()
    assert (told, taken) == ("led", target.segment.check().flights_taken)
    assert taken >= 256
    # A key that has place and hash in common with one of those would wait: one in 4,096.
    n = next(n for n in range(1, 9) if Flight(target, entry_of_a_key(target, first, n), 1).leads)
    for caller in (first, *others):
        caller.call(n)
    assert heard([first, *others]) == [("computing",)] * 3
    for caller in (first, *others):
        caller.go_on("return", caller.how)
    assert heard([first, *others]) == [("returned", caller.how) for caller in (first, *others)]
    assert target.segment.check().flights_taken == taken
    full.kill()
    full.process.join()
    target.clear()
    first.call(n)
    assert first.hear() == ("computing",)
    for caller in others:
        caller.call(n)
    assert heard(others) == [("waiting",)] * 2
    first.go_on("return", "value")
    assert heard([first, *others]) == [("returned", "value")] * 3
