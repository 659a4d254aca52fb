"""The process-local level: what it serves, what it must not, and that it stays in its bounds."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import datetime
import enum
import functools
import gc
import inspect
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest

import zoocache
from zoocache import cacheable, invalidate, local, store
from zoocache.cacheable import observing
from zoocache.shm import Cache, resize, unlink

KIB, MIB = 1 << 10, 1 << 20
language = contextvars.ContextVar("language", default="en")


class Calls:
    """Counts calls without being a part of what a function closes over."""

    made: list[Any] = []


@pytest.fixture(autouse=True)
def calls(default_cache: Cache) -> list[Any]:
    Calls.made = []
    return Calls.made


@cacheable(deps=["tag"])
def double(*args):
    """Twice as much."""
    Calls.made.append(args)
    return args * 2


@cacheable(deps=["tag"])
def found(value):
    Calls.made.append(value)
    return value


@cacheable(ttl=60)
def expiring(n):
    Calls.made.append(n)
    return n


@cacheable(key=lambda n: (n, language.get()))
def greeting(n):
    Calls.made.append(n)
    return f"{language.get()} {n}"


@cacheable(key="greeting:{n}")
def by_template(n, other=None):
    Calls.made.append(n)
    return n


class Methods:
    @cacheable(key="plain:{n}")
    def of_instance(self, n):
        """Of an instance."""
        Calls.made.append(n)
        return n

    @classmethod
    @cacheable(key="class:{n}")
    def of_class(cls, n):
        Calls.made.append(n)
        return cls.__name__, n

    @staticmethod
    @cacheable()
    def static(n):
        Calls.made.append(n)
        return n


def warm(function: Callable[..., Any], *args: Any) -> Any:
    """Called so often that the next call may be a local hit: computed, found, remembered."""
    function(*args)
    return function(*args)


def local_hits() -> int:
    return zoocache.stats()["local"]


def is_local(call: Callable[[], Any]) -> bool:
    before = local_hits()
    call()
    return local_hits() == before + 1


def put(map: Any, key: Any, value: Any, *, size: int = 100) -> bool:
    """Keeps a value under an entry of its own."""
    cache = store.cache()
    assert cache is not None
    return bool(map.put(key, value, f"{key}".encode(), b"", cache.stamp(), 0, size))


class TestMemo:
    def test_the_third_call_is_a_local_hit(self, calls) -> None:
        warm(double, 3)
        assert is_local(lambda: double(3))
        assert calls == [(3,)]

    def test_equal_arguments_of_other_types_are_other_calls(self, calls) -> None:
        values = [1, True, 1.0, Decimal(1), "1", b"1", 0, False, None, (), ("1",), (b"1",), -0.0]
        for _ in range(4):
            for value in values:
                got = found(value)
                assert got == value
                assert type(got) is type(value)
                pair = double(value, value)
                assert [type(one) for one in pair] == [type(value)] * 4
        assert len(calls) == 2 * len(values)

    def test_no_arguments_one_and_many_are_told_apart(self, calls) -> None:
        for args in [(), ("a",), ("a", "b"), (("a", "b"),), ("ab",)] * 3:
            assert double(*args) == args * 2
        assert len(calls) == 5

    def test_keywords_are_not_lost(self) -> None:
        for _ in range(3):
            assert by_template(1) == 1
            assert by_template(n=2) == 2
            assert by_template(3, other=1) == 3
        with pytest.raises(TypeError):
            by_template(1, unknown=1)
        with pytest.raises(TypeError):
            by_template()

    def test_odd_arguments_go_to_the_function(self) -> None:
        for args in [([1],), ({"a": 1},), (datetime.date(2024, 1, 1),), (1.5,), ((1, 2),)]:
            assert warm(double, *args) == args * 2
            assert not is_local(lambda args=args: double(*args))
        warm(double, "text")
        # A subclass may behave in its own way.
        assert not is_local(lambda: length(type("Text", (str,), {})("text")))

    def test_none_is_a_result(self, calls) -> None:
        for _ in range(4):
            assert found(None) is None
        assert calls == [None]

    def test_an_exception_is_not_remembered(self, calls) -> None:
        @cacheable()
        def failing(n):
            Calls.made.append(n)
            raise ValueError(n)

        for _ in range(3):
            with pytest.raises(ValueError, match="7"):
                failing(7)
        assert calls == [7, 7, 7]

    @pytest.mark.parametrize(
        "value", [[1], {"a": 1}, {1}, (1, [2]), bytearray(b"x"), (frozenset([1]), (2, {"a": 3}))]
    )
    def test_a_result_that_can_be_changed_is_each_callers_own(self, value) -> None:
        @cacheable()
        def changing(n):
            return copy.deepcopy(value)

        results = [changing(1) for _ in range(4)]
        assert all(result == value for result in results)
        parts = [part for result in results for part in (result, *result)]
        changeable = [id(part) for part in parts if isinstance(part, list | dict | set | bytearray)]
        assert len(changeable) == len(set(changeable))

    def test_a_key_function_may_look_at_more_than_the_arguments(self, calls) -> None:
        """It is asked each time: Django's own keys of pages have the language in them."""
        warm(greeting, 1)
        language.set("de")
        try:
            assert greeting(1) == "de 1"
        finally:
            language.set("en")
        assert greeting(1) == "en 1"
        assert calls == [1, 1]

    def test_invalidation_delete_and_clear_are_seen(self, calls, default_cache) -> None:
        def drop_by_key() -> None:
            for entry in list(default_cache.keys()):
                default_cache.delete(entry)

        ways = [lambda: invalidate("tag"), zoocache.clear, drop_by_key]
        for number, drop in enumerate(ways, start=1):
            warm(double, 3)
            assert is_local(lambda: double(3))
            drop()
            assert double(3) == (3, 3)
            assert len(calls) == number + 1
        invalidate("another")
        warm(double, 3)
        assert len(calls) == len(ways) + 1

    def test_a_copy_expires_with_its_entry(self, calls, default_cache) -> None:
        warm(expiring, 1)
        assert is_local(lambda: expiring(1))
        default_cache.segment.shift_time(61)
        expiring(1)
        assert calls == [1, 1]

    def test_one_that_has_expired_and_is_in_grace_is_not_kept(self, calls, default_cache) -> None:
        @cacheable(ttl=60, grace=600)
        def graceful(n):
            Calls.made.append(n)
            return len(Calls.made)

        warm(graceful, 1)
        assert is_local(lambda: graceful(1))
        default_cache.segment.shift_time(61)
        assert graceful(1) == 2  # nobody else computes, so this call does
        assert [graceful(1) for _ in range(3)] == [2, 2, 2]

    def test_an_inner_hit_is_a_dependency_of_the_outer_function(self) -> None:
        @cacheable()
        def outer(n):
            return ("outer", double(n))

        warm(double, 1)
        assert is_local(lambda: double(1))
        warm(outer, 1)
        assert is_local(lambda: outer(1))
        before = len(Calls.made)
        invalidate("tag")
        assert outer(1) == ("outer", (1, 1))
        assert len(Calls.made) == before + 1

    def test_without_local_nothing_is_kept(self, calls) -> None:
        zoocache.configure(local=0)
        warm(double, 3)
        assert not is_local(lambda: double(3))
        assert local.copies is None
        assert calls == [(3,)]
        zoocache.configure(local="1MiB")
        warm(double, 3)
        assert is_local(lambda: double(3))

    def test_what_is_switched_off_serves_nothing(self, calls) -> None:
        warm(double, 3)
        zoocache.configure(enabled=False)
        double(3)
        assert calls == [(3,), (3,)]

    def test_hits_are_counted_and_one_in_so_many_goes_to_the_segment(self, calls) -> None:
        warm(double, 3)
        before = zoocache.stats()
        for _ in range(20_000):
            double(3)
        after = zoocache.stats()
        shared = after["hits"] - before["hits"]
        assert after["local"] - before["local"] + shared == 20_000
        assert shared == 20_000 // 8192
        assert calls == [(3,)]

    def test_a_call_that_was_not_served_is_not_counted(self) -> None:
        warm(double, 1)
        before = zoocache.stats()
        double(True)
        assert zoocache.stats()["local"] == before["local"]

    def test_it_passes_for_the_function(self) -> None:
        assert double.__name__ == "double"
        assert double.__doc__ == "Twice as much."
        assert double.__module__ == __name__
        assert double.__wrapped__.__name__ == "double"
        assert str(inspect.signature(by_template)) == "(n, other=None)"
        assert inspect.isroutine(double)
        assert callable(double)
        assert not inspect.iscoroutinefunction(double)
        assert inspect.unwrap(double) is double.__wrapped__
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            assert pickle.loads(pickle.dumps(double, protocol)) is double
        assert copy.copy(double) is double
        assert copy.deepcopy([double])[0] is double
        assert weakref.ref(double)() is double
        assert functools.partial(double, 2)() == (2, 2)
        double.note = 5
        assert double.note == 5
        assert vars(double)["note"] == 5
        del double.note

    def test_methods(self, calls) -> None:
        one, other = Methods(), Methods()
        for _ in range(3):
            assert one.of_instance(1) == other.of_instance(1) == 1
            assert Methods.of_instance(one, 1) == 1
            assert Methods.of_class(2) == one.of_class(2) == ("Methods", 2)
            assert Methods.static(3) == one.static(3) == 3
        assert calls == [1, 2, 3]
        assert one.of_instance.__self__ is one
        assert one.of_instance.__doc__ == "Of an instance."
        assert pickle.loads(pickle.dumps(Methods.static)) is Methods.static
        assert is_local(lambda: Methods.static(3))

    def test_a_memo_that_nobody_holds_goes(self) -> None:
        def make() -> weakref.ref[Any]:
            @cacheable()
            def passing(n):
                return n

            warm(passing, 1)
            return weakref.ref(passing)

        gone = make()
        gc.collect()
        assert gone() is None

    def test_its_type_takes_no_nonsense(self) -> None:
        gate = local.gate
        for wrong in [(), (len,), (len, None, None), (len, gate)]:
            with pytest.raises(TypeError):
                local.Memo(*wrong)
        memo = local.memo(len)
        for wrong in [(), ((), 1), ((), 1, None, b""), ([], 1, local.copies, b"")]:
            with pytest.raises(TypeError):
                memo._keep(*wrong)
        with pytest.raises(TypeError):
            type("Sub", (local.Memo,), {})
        with pytest.raises(TypeError):
            gate.open(5)
        with pytest.raises(TypeError):
            type(local.copies)()


class TestBounds:
    def test_entries(self, monkeypatch) -> None:
        monkeypatch.setattr(local, "MOST_ENTRIES", 100)
        zoocache.configure(local="64MiB")
        store.cache()
        for number in range(1000):
            assert put(local.copies, number, number)
            assert local.gate.level.held() <= 100
        assert local.copies.get(999) == 999
        assert local.copies.get(0) is None

    def test_what_was_used_since_the_last_turn_stays(self, monkeypatch) -> None:
        monkeypatch.setattr(local, "MOST_ENTRIES", 100)
        zoocache.configure(local="64MiB")
        store.cache()
        put(local.copies, "wanted", 1)
        for number in range(1000):
            put(local.copies, number, number)
            assert local.copies.get("wanted") == 1

    def test_a_value_of_half_of_the_bound_or_more_is_not_kept(self) -> None:
        zoocache.configure(local="1MiB")
        store.cache()
        assert put(local.copies, 1, b"", size=MIB // 2)
        assert not put(local.copies, 2, b"", size=MIB // 2 + 1)

    def test_bytes(self) -> None:
        """What is kept may take no more memory than it was allowed to."""
        zoocache.configure(local="64KiB", size="4MiB")
        for name, make in VALUES.items():
            zoocache.clear()

            @cacheable()
            def made(n, make=make):
                return make(n)

            warm(made, -1)
            with tracing() as took:
                for n in range(100):
                    warm(made, n)
            assert took() < 80 * KIB, name
            assert local.gate.level.held() > 2, name

    def test_bytes_of_rows(self, default_cache) -> None:
        zoocache.configure(local="64KiB")
        store.cache()
        for name, make in VALUES.items():
            local.copies.put(b"", (), b"", b"", 0, 0, 0)
            with tracing() as took:
                for n in range(100):
                    copy = local.Copy(local.copies, b"e", b"", default_cache.stamp(), 0)
                    copy.keep_rows(b"%d" % n, tuple((value,) for value in make(n)))
            assert took() < 80 * KIB, name

    def test_bytes_of_long_arguments(self) -> None:
        zoocache.configure(local="64KiB")
        warm(length, "")
        with tracing() as took:
            for n in range(100):
                warm(length, f"{n:01000}")
        assert took() < 80 * KIB


VALUES: dict[str, Callable[[int], tuple[Any, ...]]] = {
    "ints": lambda n: tuple(n * 50 + 1000 + i for i in range(50)),
    "small ones": lambda n: tuple(i % 100 for i in range(50)),
    "texts": lambda n: tuple(f"{n} {i}" for i in range(50)),
    "decimals": lambda n: tuple(Decimal(n + i) for i in range(50)),
    "ascii": lambda n: (f"{n:01000}",),
    "wide": lambda n: ("\U0001f600" + f"{n:01000}",),
    "times": lambda n: (datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc),),
}


@cacheable()
def length(text):
    return len(text)


@contextmanager
def tracing() -> Iterator[Callable[[], int]]:
    """A function that tells the bytes which are in use now and were not before."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]

        def took() -> int:
            gc.collect()
            return tracemalloc.get_traced_memory()[0] - before

        yield took
    finally:
        tracemalloc.stop()


class TestReferences:
    def test_what_is_kept_is_let_go_in_every_way(self, default_cache) -> None:
        """By an overwriting put, a turn, a stale look, a close, and the calls that fail."""
        key, value, entry = "key" * 5, ("a value",), b"an entry"
        store.cache()
        arguments = (entry, b"\0" * 16, default_cache.stamp(), 0, 100)
        memo = local.memo(lambda *args: value)

        def everything() -> None:
            copies = local.copies
            for _ in range(2):
                assert copies.put(key, value, *arguments)
                assert copies.get(key) is value
                assert copies.find(key) == (value, b"\0" * 16, arguments[2])
            assert memo._keep((key,), value, copies, *arguments)
            assert memo(key) is value
            assert memo.get((key,)) is value
            assert memo.find((key,)) == (value, b"\0" * 16, arguments[2])
            assert memo.get((key, key)) is memo.find((key, key)) is memo.find(key) is None
            assert memo(key, key) is value
            assert memo._keep((key, key), value, copies, *arguments)
            assert not memo._keep(([],), value, copies, *arguments)
            assert not copies.put(key, value, *arguments[:-1], 1 << 60)
            for wrong in [(key, value), (key, value, 5, 5, 5, 5, 5), ([], value, *arguments[:2])]:
                with pytest.raises(TypeError):
                    copies.put(*wrong)
            assert not copies.put([], value, *arguments)
            with pytest.raises(TypeError):
                memo._keep((key,), value, copies, entry)
            assert copies.get([]) is None
            zoocache.clear()
            assert copies.get(key) is None

        def counts() -> list[int]:
            return [sys.getrefcount(one) for one in (key, value, entry, memo, local.gate)]

        everything()
        local.close_level()
        before, types = counts(), [type(local.gate), local.Memo]
        of_types = [sys.getrefcount(kind) for kind in types]
        with tracing() as took:
            for round in range(300):
                zoocache.configure(local="1MiB" if round % 2 else "2MiB")
                store.cache()
                arguments = (entry, b"\0" * 16, default_cache.stamp(), 0, 100)
                everything()
            local.close_level()
            assert took() < 20 * KIB
        assert counts() == before
        assert [sys.getrefcount(kind) for kind in types] == of_types

    def test_finalizers_may_come_in_at_any_allocation(self, calls) -> None:
        """And call, keep, invalidate, or change the settings, which closes the level."""
        deeds = [
            lambda: double(7),
            lambda: double(8),
            lambda: invalidate("tag"),
            lambda: zoocache.configure(local="1MiB"),
            lambda: local.close_level(),
            lambda: put(local.copies, "x", 1) if local.copies else None,
            store.cache,
        ]
        done, inside = [0], [False]

        class Garbage:
            def __init__(self) -> None:
                self.itself = self

            def __del__(self) -> None:
                if not inside[0]:  # those that they make come later
                    inside[0] = True
                    done[0] += 1
                    deeds[done[0] % len(deeds)]()
                    inside[0] = False

        thresholds = gc.get_threshold()
        gc.set_threshold(1, 1, 1)
        try:
            for number in range(1500):
                Garbage()
                assert double(number % 10) == (number % 10, number % 10)
                if local.copies is not None:
                    put(local.copies, number % 5, (number,))
                    local.copies.get(number % 3)
        finally:
            gc.set_threshold(*thresholds)
        assert done[0] > 100


class TestTheSegmentsEnd:
    @pytest.mark.parametrize("end", ["resize", "unlink"])
    def test_copies_end_with_it(self, calls, short_name, end) -> None:
        warm(double, 3)
        assert is_local(lambda: double(3))
        if end == "resize":
            resize(short_name, 2 * MIB)
        else:
            unlink(short_name)
        # What began in the old one cannot be stored in the new one.
        for _ in range(4):
            double(3)
        assert calls == [(3,), (3,), (3,)]
        assert is_local(lambda: double(3))  # in the new one

    def test_a_function_that_is_not_called_any_more_holds_no_old_segment(self, short_name) -> None:
        """It would keep the memory of the old segment from the whole host."""
        script = f"""
            import gc, zoocache
            from zoocache.shm import path_of, resize

            zoocache.configure(name={short_name!r}, size="1MiB")
            idle, busy = (zoocache.cacheable(key=f"{{n}}:{{{{n}}}}")(abs) for n in range(2))
            for _ in range(3):
                idle(1)
            resize({short_name!r}, 1 << 21)
            for _ in range(3):
                busy(1)
            gc.collect()
            mapped = [line for line in open("/proc/self/maps") if path_of({short_name!r}) in line]
            assert mapped and not [line for line in mapped if "(deleted)" in line], mapped
        """
        script = script.replace("(abs)", "(lambda n: n)")
        subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)

    def test_what_was_kept_goes_at_once(self) -> None:
        warm(double, 3)
        level = local.gate.level
        assert level.held() == 1
        zoocache.configure(local="2MiB")
        assert level.held() == 0

    def test_a_closed_level_keeps_and_serves_nothing(self) -> None:
        store.cache()
        copies = local.copies
        put(copies, 1, "one")
        local.close_level()
        assert copies.get(1) is None
        assert copies.find(1) is None
        assert not put(copies, 1, "one")
        memo = local.memo(lambda *args: "called")
        assert (
            memo._keep((1,), "kept", copies, b"entry", b"", store.cache().stamp(), 0, 10) is False
        )
        assert memo(1) == "called"

    def test_a_memo_that_is_asked_for_what_it_has(self, default_cache) -> None:
        """While somebody is busy, only together with what it depends on."""
        store.cache()
        memo = local.memo(lambda *args: "called")
        stamp, deps = default_cache.stamp(), b"\0" * 8
        for key in [(1,), (), ("a", None)]:
            assert memo.get(key) is memo.find(key) is None
            assert memo._keep(key, ["kept"], local.copies, b"entry", deps, stamp, 0, 10)
            local.busy.add("somebody")
            try:
                assert memo.get(key) is None
                assert memo.find(key) == (["kept"], deps, stamp)
            finally:
                local.busy.discard("somebody")
            assert memo.get(key) == ["kept"]
        for other in [(True,), (1.0,), 1, [1], (1, 1), ([],), ("a", 0)]:
            assert memo.get(other) is memo.find(other) is None
        zoocache.clear()
        assert memo.get((1,)) is memo.find((1,)) is None
        assert memo._keep((1,), "kept", local.copies, b"entry", deps, default_cache.stamp(), 0, 10)
        local.close_level()
        assert memo.get((1,)) is memo.find((1,)) is None


class TestOtherProcesses:
    def test_what_another_process_ends_is_seen_at_once(self, calls, short_name) -> None:
        script = f"""
            import sys
            from zoocache.shm import Cache, Segment
            from zoocache.shm.intent import End, Intent
            cache = Cache(Segment({short_name!r}))
            for line in sys.stdin:
                what = line.strip()
                if what == "invalidate":
                    cache.invalidate("tag")
                elif what == "clear":
                    cache.clear()
                elif what == "announce":
                    announced = cache.intent()
                    announced.announce(["tag"], "", 0)
                elif what == "settle":
                    announced.settle(End.COMMITTED)
                elif what == "delete":
                    for key in list(cache.keys()):
                        cache.delete(key)
                print("done", flush=True)
        """
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as other:  # fmt: skip

            def ask(what: str) -> None:
                other.stdin.write(what + "\n")
                other.stdin.flush()
                assert other.stdout.readline() == "done\n"

            for what in ["invalidate", "clear", "delete", "announce"]:
                warm(double, 3)
                assert is_local(lambda: double(3))
                before = len(calls)
                ask(what)
                double(3)
                assert len(calls) == before + 1, what
            double(3)
            assert len(calls) == before + 2  # as long as it is announced
            ask("settle")
            warm(double, 3)
            assert is_local(lambda: double(3))
            other.stdin.close()

    def test_a_forked_child_begins_without_copies_and_sees_what_its_parent_ends(self) -> None:
        warm(double, 3)
        for _ in range(5):
            double(3)
        before = zoocache.stats()["local"]

        def child() -> None:
            assert local.copies is None
            assert local.gate.level is None
            warm(double, 3)
            assert is_local(lambda: double(3))

        for _ in range(5):
            double(3)  # counted by this process alone
        run_forked(child)
        assert zoocache.stats()["local"] == before + 5 + 2

    def test_a_child_of_a_computation_is_not_in_it(self) -> None:
        """Nor is it busy for ever with what other threads of its parent were at."""
        at_it, go = threading.Event(), threading.Event()

        @cacheable(key="slow:{n}")
        def slow(n):
            at_it.set()
            go.wait(20)
            return n

        thread = threading.Thread(target=slow, args=(1,))
        thread.start()
        assert at_it.wait(20)

        def child() -> None:
            warm(double, 3)
            assert is_local(lambda: double(3))

        try:
            run_forked(child)
        finally:
            go.set()
            thread.join()


def run_forked(work: Callable[[], None]) -> None:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os.write(write, b"good")
        except BaseException as error:
            os.write(write, repr(error).encode()[:500])
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with os.fdopen(read) as told:
        assert told.read() == "good"


class TestConcurrency:
    def test_threads(self) -> None:
        """Each sees its own invalidations, whoever else calls meanwhile."""
        versions = dict.fromkeys(range(4), 0)

        @cacheable(deps=lambda n: [f"row:{n}"], wait=0.01)
        def version(n):
            return versions[n]

        failures = []

        def work(own: int) -> None:
            for _ in range(300):
                versions[own] += 1
                invalidate(f"row:{own}")
                for n in versions:
                    before = versions[n] if n == own else 0
                    if version(n) < before:
                        failures.append((n, before))

        threads = [threading.Thread(target=work, args=(n,)) for n in versions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures

    def test_tasks_and_threads_that_observe_keep_nobody_elses_dependencies(self) -> None:
        @observing(key=lambda n: n)
        def page(n):
            return ("page", double(n))

        async def both() -> None:
            loop = asyncio.get_running_loop()
            await asyncio.gather(*(loop.run_in_executor(None, page, n) for n in range(8)))

        warm(double, 1)
        asyncio.run(both())
        before = len(Calls.made)
        invalidate("tag")
        page(1)
        assert len(Calls.made) == before + 1
        assert not local.busy

    def test_settings_that_change_while_the_segment_is_opened_are_in_force(
        self, monkeypatch
    ) -> None:
        opening = local.open_level

        def meanwhile(*args: Any) -> None:
            monkeypatch.setattr(local, "open_level", opening)
            zoocache.configure(enabled=False)  # of another thread
            opening(*args)

        warm(double, 3)
        zoocache.configure(local="2MiB")
        monkeypatch.setattr(local, "open_level", meanwhile)
        store.cache()
        assert local.gate.level is None
        assert local.copies is None


class TestWhatMayBeShared:
    class Color(enum.Enum):
        RED = 1

    def test_rows(self, default_cache) -> None:
        good = [(1, "a", None), (2.0, b"", True), (Decimal(1), datetime.date(2024, 1, 1), 3)]
        bad = [[1], {"a": 1}, bytearray(b"x"), memoryview(b"x"), {1}, (1,), object()]
        for rows in [[], good]:
            assert self.is_kept(default_cache, rows), rows
        for one in bad:
            for rows in [[(one,)], [(one, 1)], [(1, one, "x")], [*good, (1, 2, one)]]:
                assert not self.is_kept(default_cache, rows), rows

    def is_kept(self, cache: Cache, rows: list[Any]) -> bool:
        copy = local.Copy(local.copies, b"entry", b"", cache.stamp(), 0)
        copy.keep_rows(b"key", tuple(rows))
        kept = local.copies.get(b"key") is not None
        store.clear()
        return kept

    def test_results(self) -> None:
        for good in [1, (1, (2, "x")), frozenset([(1,)]), self.Color.RED, (self.Color.RED, 1), ()]:
            assert local.size_of(good) > 0, good
        for bad in [[1], ([],), ([], 1), (1, ([], 1)), (1, (2, {})), type("S", (str,), {})("x")]:
            assert local.size_of(bad) is None, bad
