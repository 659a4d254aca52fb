"""One computation per key: who waits for whom, for how long, and for whom nobody waits.

A leader stays in its computation until the others have begun to wait: the
fixture `waiting` counts them. Where a test waits for nothing, `wait` is a
minute, so that a caller who waits for a leader in vain is noticed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

import zoocache
from zoocache import cacheable, config, invalidate
from zoocache.cacheable import add_deps, computing, current_frame
from zoocache.exceptions import ConfigError
from zoocache.shm import MIN_SIZE, Cache, Flight, Landing, Segment

LONG = 60  # seconds that nobody is to wait
SOON = 20  # seconds in which whatever needs none must be over


@pytest.fixture(autouse=True)
def target(default_cache: Cache) -> Cache:
    return default_cache


class Waiters:
    """Counts the callers that have begun to wait for another's flight."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._seen: set[int] = set()  # flights, which stay alive while they are here
        self._flights: list[Flight] = []

    def note(self, flight: Flight) -> None:
        with self._changed:
            if id(flight) not in self._seen:
                self._seen.add(id(flight))
                self._flights.append(flight)
                self._changed.notify_all()

    def reach(self, n: int) -> None:
        """Blocks until `n` have begun to wait, all in all."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._seen) >= n, SOON), len(self._seen)

    @property
    def count(self) -> int:
        return len(self._seen)


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Waiters:
    waiters = Waiters()
    poll = Flight.poll

    def watched(self: Flight, wait_ms: int = 0) -> Landing | None:
        waiters.note(self)
        return poll(self, wait_ms)

    monkeypatch.setattr(Flight, "poll", watched)
    return waiters


class Work:
    """What a test's function does: `turns` gives for each computation what it is to do."""

    def __init__(self, *turns: Callable[[], Any]) -> None:
        self.turns = list(turns)
        self.begun = [threading.Event() for _ in turns]
        self.threads: list[int] = []
        self.lock = threading.Lock()

    def __call__(self) -> Any:
        with self.lock:
            number = len(self.threads)
            self.threads.append(threading.get_ident())
        self.begun[number].set()
        return self.turns[number]()

    def cached(self, **options: Any) -> Callable[[], Any]:
        return cacheable(key=lambda: "one key", **{"wait": LONG, **options})(lambda: self())


def led_by_the_first(
    pool: ThreadPoolExecutor, work: Work, function: Callable[[], Any], n: int
) -> list[Future[Any]]:
    """`n` calls, of which the first computes for certain."""
    calls = [pool.submit(function)]
    assert work.begun[0].wait(SOON)
    return calls + [pool.submit(function) for _ in range(n - 1)]


class TestThreads:
    def test_one_computes_for_all(self, waiting: Waiters, target: Cache) -> None:
        def leader() -> str:
            waiting.reach(7)
            return "value"

        work = Work(leader)
        function = work.cached()
        with ThreadPoolExecutor(8) as pool:
            calls = led_by_the_first(pool, work, function, 8)
            assert [call.result(SOON) for call in calls] == ["value"] * 8
        assert len(work.threads) == 1
        stats = target.stats()
        assert (stats["led"], stats["waited"], stats["overtaken"]) == (1, 7, 0)

    def test_many_keys_do_not_wait_for_each_other(self) -> None:
        together = threading.Barrier(8)

        @cacheable(key=lambda n: n, wait=LONG)
        def function(n: int) -> int:
            together.wait(SOON)
            return n

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(function, range(8), timeout=SOON)) == list(range(8))

    def test_an_exception_stays_with_its_call_and_one_other_computes(
        self, waiting: Waiters
    ) -> None:
        def leader() -> str:
            waiting.reach(4)
            raise LookupError("the leader's own")

        def second() -> str:
            waiting.reach(4 + 3)  # the others wait once more
            return "value"

        work = Work(leader, second)
        function = work.cached()
        with ThreadPoolExecutor(5) as pool:
            first, *others = led_by_the_first(pool, work, function, 5)
            with pytest.raises(LookupError, match="the leader's own"):
                first.result(SOON)
            assert [call.result(SOON) for call in others] == ["value"] * 4
        assert len(work.threads) == 2

    @pytest.mark.parametrize(
        "unstorable", [object, lambda: bytes(2 * MIN_SIZE)], ids=["type", "size"]
    )
    def test_of_a_result_that_cannot_be_stored_nobody_waits_in_line(
        self, waiting: Waiters, unstorable: Callable[[], object]
    ) -> None:
        together = threading.Barrier(3)  # they meet only if all compute at once

        def leader() -> object:
            waiting.reach(3)
            return unstorable()

        def follower() -> object:
            together.wait(SOON)
            return unstorable()

        work = Work(leader, follower, follower, follower)
        function = work.cached()
        with ThreadPoolExecutor(4) as pool:
            calls = led_by_the_first(pool, work, function, 4)
            kinds = {type(call.result(SOON)) for call in calls}
        assert kinds == {type(unstorable())}
        assert len(work.threads) == 4

    def test_invalidated_while_it_is_computed_nobody_waits_in_line(self, waiting: Waiters) -> None:
        """The leader's value is born dead: its waiters want the new one, at once."""
        together = threading.Barrier(3)
        source = ["old"]

        def leader() -> str:
            value = source[0]
            waiting.reach(3)
            source[0] = "new"
            invalidate("Product")
            return value

        def follower() -> str:
            together.wait(SOON)
            return source[0]

        work = Work(leader, follower, follower, follower)
        function = work.cached(deps=["Product"])
        with ThreadPoolExecutor(4) as pool:
            first, *others = led_by_the_first(pool, work, function, 4)
            assert first.result(SOON) == "old"  # it began before
            assert [call.result(SOON) for call in others] == ["new"] * 3
        assert function() == "new"
        assert len(work.threads) == 4

    def test_invalidated_right_after_it_was_stored_nobody_waits_in_line(
        self, waiting: Waiters, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Stored, and gone before a waiter looks: it computes, whoever else does, too."""
        together = threading.Barrier(3)
        end = Flight.end

        def invalidates_first(self: Flight, landing: Landing) -> None:
            if work.begun[0].is_set() and not work.begun[1].is_set():
                assert landing is Landing.STORED
                invalidate("Product")
            end(self, landing)

        def leader() -> str:
            waiting.reach(3)
            monkeypatch.setattr(Flight, "end", invalidates_first)
            return "old"

        def follower() -> str:
            together.wait(SOON)
            return "new"

        work = Work(leader, follower, follower, follower)
        function = work.cached(deps=["Product"])
        with ThreadPoolExecutor(4) as pool:
            calls = led_by_the_first(pool, work, function, 4)
            assert [call.result(SOON) for call in calls] == ["old", *["new"] * 3]

    def test_who_waits_depends_on_what_the_leader_does(
        self, waiting: Waiters, target: Cache
    ) -> None:
        """A value that was waited for is a hit: its tags count for the enclosing computation."""

        def leader() -> str:
            waiting.reach(1)
            add_deps(["Product"])
            return "value"

        work = Work(leader)
        function = work.cached()
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(function)
            assert work.begun[0].wait(SOON)
            with computing(target.stamp()) as frame:  # for which nobody waits
                assert function() == "value"
            assert first.result(SOON) == "value"
        found = target.get_with_deps(entry_of(target))
        assert found is not None
        assert frame.deps == {found.deps}

    def test_two_that_need_each_other_do_not_wait(self, waiting: Waiters) -> None:
        """K1 needs K2 and K2 needs K1, each led by the thread that needs the other."""
        both = threading.Barrier(2)
        mine = threading.local()

        def body(name: str, other: Callable[[], str]) -> str:
            if getattr(mine, "inside", False):
                return name
            mine.inside = True
            both.wait(SOON)
            result = f"{name} with {other()}"
            both.wait(SOON)  # neither has stored anything for the other to hit
            return result

        k1 = cacheable(key=lambda: 1, wait=LONG)(lambda: body("K1", k2))
        k2 = cacheable(key=lambda: 2, wait=LONG)(lambda: body("K2", k1))
        with ThreadPoolExecutor(2) as pool:
            calls = [pool.submit(k1), pool.submit(k2)]
            assert [call.result(SOON) for call in calls] == ["K1 with K2", "K2 with K1"]
        assert waiting.count == 0

    def test_in_two_levels_neither(self, waiting: Waiters) -> None:
        """Whoever waits for the outermost waits for all that is within it."""
        both = threading.Barrier(2)
        mine = threading.local()

        def body(name: str, other: Callable[[], str]) -> str:
            if getattr(mine, "inside", False):
                return name
            mine.inside = True
            both.wait(SOON)
            result = other()
            both.wait(SOON)
            return result

        k1 = cacheable(key=lambda: 1, wait=LONG)(lambda: body("K1", m2))
        k2 = cacheable(key=lambda: 2, wait=LONG)(lambda: body("K2", m1))
        m1 = cacheable(key=lambda: 3, wait=LONG)(lambda: k1())
        m2 = cacheable(key=lambda: 4, wait=LONG)(lambda: k2())
        with ThreadPoolExecutor(2) as pool:
            calls = [pool.submit(k1), pool.submit(k2)]
            assert sorted(call.result(SOON) for call in calls) == ["K1", "K2"]
        assert waiting.count == 0

    def test_recursion_does_not_wait_for_itself(self, waiting: Waiters) -> None:
        @cacheable(key=lambda n: "one key", wait=LONG)
        def function(n: int) -> int:
            return n + function(n - 1) if n else 0

        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(function, 3).result(SOON) == 6
        assert waiting.count == 0

    def test_a_leader_that_takes_too_long_is_overtaken(self, waiting: Waiters) -> None:
        """After `wait` seconds; what it has in the end replaces nothing newer."""
        proceed = threading.Event()

        def leader() -> str:
            assert proceed.wait(SOON)
            return "late"

        work = Work(leader, lambda: "in time")
        function = work.cached(wait=0.2, deps=["Product"])
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(function)
            assert work.begun[0].wait(SOON)
            invalidate("Product")
            began = time.monotonic()
            assert function() == "in time"
            assert 0.1 < time.monotonic() - began < SOON
            proceed.set()
            assert late.result(SOON) == "late"
        assert function() == "in time"
        assert len(work.threads) == 2

    def test_nothing_is_left_to_wait_for(self, target: Cache) -> None:
        for work in (Work(lambda: 1), Work(lambda: object()), Work(lambda: 1 // 0)):
            function = work.cached()
            with contextlib.suppress(ZeroDivisionError):
                function()
            invalidate("Anything")
        assert target.segment.check().flights_taken == 0
        assert current_frame() is None


def entry_of(cache: Cache) -> bytes:
    """The key of the only entry."""
    (key,) = cache.keys()
    return key


class TestTasks:
    def test_one_computes_for_all(self, waiting: Waiters) -> None:
        computed = []

        @cacheable(wait=LONG, key=lambda: "one key")
        async def function() -> str:
            computed.append(1)
            while waiting.count < 9:
                await asyncio.sleep(0)
            return "value"

        async def main() -> list[str]:
            return await asyncio.wait_for(asyncio.gather(*(function() for _ in range(10))), SOON)

        assert asyncio.run(main()) == ["value"] * 10
        assert len(computed) == 1

    @pytest.mark.parametrize("how", ["cancelled", "failed"])
    def test_a_leader_that_does_not_come_to_an_end(self, waiting: Waiters, how: str) -> None:
        computed = []

        @cacheable(wait=LONG, key=lambda: "one key")
        async def function() -> str:
            computed.append(1)
            if len(computed) == 1:
                while waiting.count < 3:
                    await asyncio.sleep(0)
                if how == "failed":
                    raise LookupError
                await asyncio.sleep(LONG)
            return "value"

        async def main() -> list[str]:
            leader = asyncio.create_task(function())
            await asyncio.sleep(0)
            assert computed == [1]
            others = asyncio.gather(*(function() for _ in range(3)))
            while waiting.count < 3:
                await asyncio.sleep(0)
            if how == "cancelled":
                leader.cancel()
            with pytest.raises(asyncio.CancelledError if how == "cancelled" else LookupError):
                await leader
            return await asyncio.wait_for(others, SOON)

        assert asyncio.run(main()) == ["value"] * 3
        assert len(computed) == 2

    def test_a_cancelled_waiter_ends_nothing(self, waiting: Waiters) -> None:
        computed = []

        async def main() -> list[str]:
            proceed = asyncio.Event()

            @cacheable(key=lambda: 1, wait=LONG)
            async def function() -> str:
                computed.append(1)
                await proceed.wait()
                return "value"

            calls = [asyncio.create_task(function()) for _ in range(3)]
            while waiting.count < 2:
                await asyncio.sleep(0)
            calls[1].cancel()
            with pytest.raises(asyncio.CancelledError):
                await calls[1]
            proceed.set()
            return await asyncio.wait_for(asyncio.gather(calls[0], calls[2]), SOON)

        assert asyncio.run(main()) == ["value"] * 2
        assert len(computed) == 1

    def test_the_loop_goes_on_while_a_task_waits(self, waiting: Waiters) -> None:
        """It waits for a task of its own loop, or for a thread: it must not block."""
        work = Work(lambda: (waiting.reach(1), ticked.wait(SOON))[1])
        ticked = threading.Event()

        @cacheable(key=lambda: "one key", wait=LONG)
        async def function() -> Any:
            return await asyncio.to_thread(work)

        async def main() -> list[Any]:
            calls = [asyncio.create_task(function()) for _ in range(2)]
            while waiting.count < 1:
                await asyncio.sleep(0)
            ticked.set()
            return await asyncio.wait_for(asyncio.gather(*calls), SOON)

        assert asyncio.run(main()) == [True, True]
        assert len(work.threads) == 1

    def test_two_that_need_each_other_do_not_wait(self, waiting: Waiters) -> None:
        begun = []

        @cacheable(key=lambda depth: depth, wait=LONG)
        async def one(depth: int) -> str:
            begun.append(1)
            while len(begun) < 2:
                await asyncio.sleep(0)
            return "one" + (await other(depth - 1) if depth else "")

        @cacheable(key=lambda depth: depth, wait=LONG)
        async def other(depth: int) -> str:
            begun.append(2)
            while len(begun) < 2:
                await asyncio.sleep(0)
            return "other" + (await one(depth - 1) if depth else "")

        async def main() -> list[str]:
            return await asyncio.wait_for(asyncio.gather(one(3), other(3)), SOON)

        assert asyncio.run(main()) == ["oneother" * 2, "otherone" * 2]

    def test_a_task_started_in_a_computation_may_outlive_it(self) -> None:
        tasks = []

        @cacheable(key=lambda n: n, wait=LONG)
        async def inner(n: int) -> int:
            await asyncio.sleep(0)
            return n

        @cacheable(key=lambda: 1, wait=LONG)
        async def outer() -> int:
            tasks.append(asyncio.create_task(inner(1)))
            return await inner(2)

        async def main() -> list[int]:
            return [await asyncio.wait_for(outer(), SOON), await tasks[0], await outer()]

        assert asyncio.run(main()) == [2, 1, 2]


class TestGrace:
    """Entries that live for 10 s, with a grace of 20 s."""

    def test_the_expired_value_is_served_while_one_computes(self, target: Cache) -> None:
        proceed = threading.Event()
        work = Work(lambda: "first", lambda: proceed.wait(SOON) and "second")
        function = work.cached(ttl=10, grace=20)
        assert function() == "first"
        target.segment.shift_time(15)
        with ThreadPoolExecutor(1) as pool:
            leader = pool.submit(function)
            assert work.begun[1].wait(SOON)
            assert [function() for _ in range(5)] == ["first"] * 5
            proceed.set()
            assert leader.result(SOON) == "second"
        assert function() == "second"
        assert len(work.threads) == 2

    def test_not_after_it(self, target: Cache, waiting: Waiters) -> None:
        def second() -> str:
            waiting.reach(1)
            return "second"

        work = Work(lambda: "first", second)
        function = work.cached(ttl=10, grace=20)
        assert function() == "first"
        target.segment.shift_time(31)
        with ThreadPoolExecutor(2) as pool:
            calls = [pool.submit(function)]
            assert work.begun[1].wait(SOON)
            calls.append(pool.submit(function))
            assert [call.result(SOON) for call in calls] == ["second"] * 2

    @pytest.mark.parametrize("drop", [lambda: invalidate("Product"), zoocache.clear])
    def test_an_invalidated_value_never(
        self, target: Cache, waiting: Waiters, drop: Callable[[], None]
    ) -> None:
        def second() -> str:
            waiting.reach(1)
            return "second"

        work = Work(lambda: "first", second)
        function = work.cached(ttl=10, grace=20, deps=["Product"])
        assert function() == "first"
        target.segment.shift_time(15)
        drop()
        with ThreadPoolExecutor(2) as pool:
            calls = [pool.submit(function)]
            assert work.begun[1].wait(SOON)
            calls.append(pool.submit(function))
            assert [call.result(SOON) for call in calls] == ["second"] * 2

    def test_invalidated_while_one_computes_it_is_not_served_any_more(self, target: Cache) -> None:
        proceed = threading.Event()
        source = ["new"]
        work = Work(lambda: "first", lambda: proceed.wait(SOON) and "second", lambda: source[0])
        function = work.cached(ttl=10, grace=20, deps=["Product"], wait=0.2)
        assert function() == "first"
        target.segment.shift_time(15)
        with ThreadPoolExecutor(1) as pool:
            leader = pool.submit(function)
            assert work.begun[1].wait(SOON)
            assert function() == "first"
            invalidate("Product")
            assert function() == "new"  # it overtakes the leader, after `wait`
            proceed.set()
            assert leader.result(SOON) == "second"
        assert function() == "new"

    def test_a_failed_computation_leaves_it(self, target: Cache) -> None:
        work = Work(lambda: "first", lambda: 1 // 0, lambda: 1 // 0, lambda: "second")
        function = work.cached(ttl=10, grace=20)
        function()
        target.segment.shift_time(15)
        for _ in range(2):  # whoever computes is told; nobody else would be
            with pytest.raises(ZeroDivisionError):
                function()
        assert [function(), function()] == ["second", "second"]

    def test_tasks_get_it_too(self, target: Cache) -> None:
        results = ["first"]

        async def main() -> list[str]:
            proceed = asyncio.Event()
            proceed.set()

            @cacheable(key=lambda: 1, ttl=10, grace=20, wait=LONG)
            async def function() -> str:
                result = results[-1]
                await proceed.wait()
                return result

            assert await function() == "first"
            target.segment.shift_time(15)
            results.append("second")
            proceed.clear()
            leader = asyncio.create_task(function())
            await asyncio.sleep(0)
            seen = [await function(), await function()]
            proceed.set()
            return [*seen, await leader, await function()]

        assert asyncio.run(main()) == ["first", "first", "second", "second"]

    def test_an_enclosing_result_depends_on_what_was_served_in_grace(self, target: Cache) -> None:
        proceed = threading.Event()
        work = Work(lambda: "first", lambda: proceed.wait(SOON) and "second", lambda: "third")
        function = work.cached(ttl=10, grace=20, deps=["Product"])
        outer = cacheable(key=lambda: "outer")(lambda: f"around {function()}")
        function()
        target.segment.shift_time(15)
        with ThreadPoolExecutor(1) as pool:
            leader = pool.submit(function)
            assert work.begun[1].wait(SOON)
            assert outer() == "around first"
            proceed.set()
            leader.result(SOON)
        invalidate("Product")
        assert outer() == "around third"


class TestArguments:
    BAD = [0, -1, float("nan"), float("inf"), 10**400, True, None, "5", b""]

    @pytest.mark.parametrize("seconds", BAD, ids=repr)
    def test_a_wait_that_is_none(self, seconds: Any) -> None:
        with pytest.raises(ConfigError, match="wait must be a positive number of seconds"):
            cacheable(wait=seconds)

    @pytest.mark.parametrize("seconds", BAD[1:], ids=repr)
    def test_a_grace_that_is_none(self, seconds: Any) -> None:
        with pytest.raises(ConfigError, match="grace must be a positive number of seconds"):
            cacheable(grace=seconds)

    @pytest.mark.parametrize("seconds", [1e-9, 1, 3600, 3601, 2**32 / 1000, config.MAX_TTL])
    def test_all_others_can_be_counted(self, seconds: float) -> None:
        function = cacheable(key=lambda: seconds, wait=seconds, grace=seconds, ttl=seconds)(
            lambda: 1
        )
        assert [function(), function()] == [1, 1]


class TestFlight:
    """The core's own rules, with injected time."""

    def test_a_late_leader_is_overtaken_and_ends_nobody_elses_flight(self, target: Cache) -> None:
        first = Flight(target, b"key", 5)
        waiter = Flight(target, b"key", 5)
        assert (first.leads, waiter.leads) == (True, False)
        assert waiter.poll() is None
        target.segment.shift_time(4)
        assert waiter.poll() is None
        target.segment.shift_time(6)
        assert waiter.poll() is Landing.FAILED
        second = Flight(target, b"key", 5)
        assert second.leads
        first.end(Landing.STORED)
        waiter = Flight(target, b"key", 5)
        assert not waiter.leads
        assert waiter.poll() is None
        second.end(Landing.UNSTORED)
        assert waiter.poll() is Landing.UNSTORED
        assert target.stats()["overtaken"] == 1

    @pytest.mark.parametrize("landing", Landing)
    def test_each_end_is_told_to_who_waits(self, target: Cache, landing: Landing) -> None:
        leader = Flight(target, b"key", LONG)
        waiter = Flight(target, b"key", LONG)
        leader.end(landing)
        assert waiter.poll() is landing
        leader.end(Landing.FAILED)  # once only
        assert waiter.poll() is landing
        assert Flight(target, b"key", LONG).leads

    def test_other_keys_other_flights(self, target: Cache) -> None:
        flights = [Flight(target, b"%d" % n, LONG) for n in range(5000)]
        # Two keys are taken for one where place and twelve bits of their hashes are the same:
        # about six of these. The second then waits for the first, and computes.
        assert sum(not flight.leads for flight in flights) < 60
        for flight in flights:
            if flight.leads:
                flight.end(Landing.STORED)
        assert target.segment.check().flights_taken == 0

    def test_a_leader_in_a_forked_child_is_another_one(self, target: Cache) -> None:
        """It has the parent's flight in its memory, but the flight is the parent's."""
        leader = Flight(target, b"key", LONG)
        pid = os.fork()
        if pid == 0:
            other = Flight(target, b"key", LONG)
            alive = not other.leads and other.poll() is None
            mine = Flight(target, b"another", LONG)
            os._exit(0 if alive and mine.leads else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert Flight(target, b"another", LONG).leads  # the child is dead
        waiter = Flight(target, b"key", LONG)
        assert not waiter.leads
        leader.end(Landing.STORED)
        assert waiter.poll() is Landing.STORED

    def test_of_a_segment_that_is_closed_no_leader_is_left(self, segment_name: str) -> None:
        """The process lives on, but its flights cannot be ended any more."""
        name = f"{segment_name}-x"
        other = Cache(Segment(name, MIN_SIZE))
        pid = os.fork()
        if pid == 0:
            mine = Cache(Segment(name))
            leads = Flight(mine, b"key", LONG).leads
            os._exit(0 if leads else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert Flight(other, b"key", LONG).leads
