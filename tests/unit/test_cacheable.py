"""`@cacheable` without a framework: what is computed anew, what is not, and what is refused."""

from __future__ import annotations

import asyncio
import contextvars
import datetime
import decimal
import enum
import functools
import inspect
import itertools
import logging
import os
import subprocess
import sys
import textwrap
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import zoocache
from zoocache import add_deps, cacheable, codec, config, invalidate, store
from zoocache.cacheable import current_frame
from zoocache.exceptions import ConfigError, TagError
from zoocache.shm import Outcome, path_of, unlink

MIB = 1 << 20
_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def clean(monkeypatch) -> Iterator[None]:
    """A process that has just been started and configured nothing but a name of the test's own."""
    for key in config.KEYS:
        monkeypatch.delenv(f"ZOOCACHE_{key}", raising=False)
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw")
    run = os.environ.get("ZOOCACHE_TEST_RUN", "alone")
    name = f"test-{run}-{worker}-cacheable-{next(_numbers)}"
    with monkeypatch.context() as patch:
        patch.setattr(config, "_sources", [])
        patch.setattr(config, "_overrides", {})
        patch.setattr(store, "_state", None)
        patch.setattr(store, "_logged", set())
        patch.setattr(store, "_frameworks", [])
        patch.setenv("ZOOCACHE_NAME", name)
        patch.setenv("ZOOCACHE_SIZE", "1MiB")
        config.changed()
        yield
    config.changed()
    unlink(name)


@pytest.fixture
def messages() -> Iterator[Callable[[], list[str]]]:
    seen: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = seen.append
    store.logger.addHandler(handler)
    yield lambda: [record.getMessage() for record in seen]
    store.logger.removeHandler(handler)


class Counter:
    """Counts calls without being a part of what a function closes over."""

    calls: list[object] = []


@pytest.fixture
def calls() -> list[object]:
    Counter.calls = []
    return Counter.calls


@cacheable()
def double(n):
    """Twice as much."""
    Counter.calls.append(n)
    return n * 2


@cacheable(deps=["Product"])
async def double_later(n):
    Counter.calls.append(n)
    await asyncio.sleep(0)
    return n * 2


class Color(enum.Enum):
    RED = 1


class Unstorable:
    """Neither an argument nor a result that could be stored."""


class TestHits:
    def test_a_result_is_computed_once(self, calls) -> None:
        assert [double(3), double(3), double(4), double(3)] == [6, 6, 8, 6]
        assert calls == [3, 4]
        stats = zoocache.stats()
        assert stats["hits"] + stats["local"] == 2

    def test_it_is_kept_for_other_processes(self, tmp_path) -> None:
        (tmp_path / "shop.py").write_text(textwrap.dedent(
            """
            from zoocache import cacheable

            @cacheable(deps=["Product"])
            def price(n, *, currency="EUR"):
                print("computed", n, n in {"an", "order", "of", "its", "own"}, sep=",", end=";")
                return [n, currency, (lambda m: m in {"another", "set"})(n)]
            """
        ))  # fmt: skip

        def run(seed: str, script: str) -> str:
            environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONHASHSEED": seed}
            command = [sys.executable, "-c", f"import shop, zoocache; {script}"]
            return subprocess.check_output(command, env=environment, text=True, timeout=30)

        # Another seed: another order in the sets of the function's constants.
        assert run("1", "print(shop.price(5))") == "computed,5,False;[5, 'EUR', False]\n"
        assert run("2", "print(shop.price(5))") == "[5, 'EUR', False]\n"
        assert run("3", "zoocache.invalidate('Product')") == ""
        assert run("4", "shop.price(5)") == "computed,5,False;"

    @pytest.mark.parametrize(
        "result",
        [
            None, False, 0, "", b"", [], {}, (), set(), 2**100, -1.5, float("inf"),
            (1, [2, {3: (4,)}], frozenset({5})),
            decimal.Decimal("1.10"), Color.RED, uuid.UUID(int=7),
            datetime.datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=datetime.timezone.utc),
            datetime.date(2024, 2, 29), datetime.timedelta(microseconds=-1),
        ],
        ids=repr,
    )  # fmt: skip
    def test_a_hit_is_equal_in_value_and_type(self, result, calls) -> None:
        @cacheable()
        def function():
            Counter.calls.append(1)
            return result

        first, second = function(), function()
        assert first is result
        assert (type(second), second) == (type(result), result)
        assert len(calls) == 1

    def test_each_caller_has_an_object_of_its_own(self) -> None:
        @cacheable()
        def numbers():
            return [1, 2]

        numbers().append(3)
        numbers().append(4)
        assert numbers() == [1, 2]

    def test_what_the_wrapper_shows_is_the_function(self) -> None:
        assert double.__name__ == "double"
        assert double.__doc__ == "Twice as much."
        assert double.__wrapped__(2) == 4
        assert list(inspect.signature(double).parameters) == ["n"]
        assert not inspect.iscoroutinefunction(double)
        assert inspect.iscoroutinefunction(double_later)

    def test_no_framework_and_no_configure_are_needed(self) -> None:
        script = (
            "import sys, zoocache; f = zoocache.cacheable()(lambda n: print('computed') or n); "
            "print(f(1), f(1), 'django' in sys.modules)"
        )
        printed = subprocess.check_output([sys.executable, "-c", script], text=True, timeout=30)
        assert printed.split() == ["computed", "1", "1", "False"]


class TestKeys:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (1, True), (1, 1.0), (0.0, -0.0), ("1", 1), ("a", b"a"), ([1], (1,)), (None, "None"),
            (decimal.Decimal("1.0"), decimal.Decimal("1.00")), ((1, (2,)), ((1, 2),)), ({}, []),
            (Color.RED, 1),
        ],
    )  # fmt: skip
    def test_arguments_that_differ_in_value_or_type_differ(self, one, other, calls) -> None:
        @cacheable()
        def function(*args):
            Counter.calls.append(args)
            return repr(args)

        for _ in range(2):
            assert function(one) == repr((one,))
            assert function(other) == repr((other,))
        assert len(calls) == 2

    def test_keywords_count_in_any_order(self, calls) -> None:
        @cacheable()
        def function(*args, **kwargs):
            Counter.calls.append(1)
            return [list(args), sorted(kwargs)]

        assert function(a=1, b=2) == function(b=2, a=1)
        assert len(calls) == 1
        assert function("a", 1) == [["a", 1], []]
        assert function(("a", 1)) == [[("a", 1)], []]
        assert function(a=1) == [[], ["a"]]
        assert len(calls) == 4

    def test_functions_do_not_meet(self) -> None:
        @cacheable()
        def one(n):
            return "one"

        @cacheable()
        def other(n):
            return "other"

        assert [one(1), other(1), one(1), other(1)] == ["one", "other", "one", "other"]

    def test_key_as_a_function_of_the_arguments(self, calls) -> None:
        @cacheable(key=lambda request, n: (request["user"], n))
        def function(request, n):
            Counter.calls.append(n)
            return n

        function({"user": 1, "odd": Unstorable()}, 5)
        function({"user": 1}, 5)
        assert calls == [5]
        function({"user": 2}, 5)
        function({"user": 1}, 6)
        assert calls == [5, 5, 6]

    def test_key_as_a_template(self, calls) -> None:
        @cacheable(key="{user}:{page}")
        def function(user, page=1, *, log=None):
            Counter.calls.append((user, page))
            return page

        function(7, log=Unstorable())
        function(7, 1)
        function(user=7, page=1)
        assert calls == [(7, 1)]
        function(7, page=2)
        function(8)
        assert calls == [(7, 1), (7, 2), (8, 1)]

    def test_one_key_in_two_functions_is_two_entries(self) -> None:
        one = cacheable(key=lambda: "same")(lambda: 1)
        other = cacheable(key=lambda: "same")(lambda: 2)
        assert [one(), other(), one(), other()] == [1, 2, 1, 2]

    def test_arguments_that_cannot_be_stored_are_said_once(self, calls, messages) -> None:
        odd = Unstorable()

        @cacheable()
        def function(thing):
            Counter.calls.append(thing)
            return 1

        assert [function(odd), function(odd)] == [1, 1]
        assert calls == [odd, odd]
        (message,) = messages()
        assert "is not cached: what it depends on cannot name an entry" in message
        assert "Unstorable" in message
        assert "give @cacheable a key=" in message

    def test_methods_need_a_key(self, calls, messages) -> None:
        class Shop:
            def __init__(self, pk):
                self.pk = pk

            @cacheable()
            def slow(self):
                Counter.calls.append("slow")
                return self.pk

            @cacheable(key="{self.pk}")
            def fast(self):
                Counter.calls.append("fast")
                return self.pk

        assert [Shop(1).slow(), Shop(1).slow(), Shop(2).slow()] == [1, 1, 2]
        assert [Shop(1).fast(), Shop(1).fast(), Shop(2).fast()] == [1, 1, 2]
        assert calls == ["slow"] * 3 + ["fast"] * 2
        assert len(messages()) == 1


def made_from(source: str, name: str = "function", **names: object) -> Callable[..., object]:
    """A function of the module "deployed" as if it had just been imported from this source."""
    namespace = {"__name__": "deployed", "cacheable": cacheable, "Counter": Counter, **names}
    exec(compile(textwrap.dedent(source), "deployed.py", "exec"), namespace)
    return namespace[name]


class TestDeploys:
    SOURCE = """
        @cacheable()
        def function(n):
            Counter.calls.append(n)
            return [n + 1, "x", [m for m in range(2)]]
    """

    def test_the_same_code_keeps_its_entries(self, calls) -> None:
        made_from(self.SOURCE)(1)
        made_from("# moved\n\n" + textwrap.dedent(self.SOURCE))(1)
        assert calls == [1]

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("n + 1", "n + 2"),  # a constant
            ("n + 1", "n - 1"),  # an operation
            ('"x"', '"y"'),
            ("range(2)", "range(3)"),  # in a nested function, before Python 3.12
            ("m for m", "m * 2 for m"),
            ("[n + 1", "[abs(n)"),  # another name
            ("def function(n)", "def function(n, k=None)"),
        ],
    )
    def test_other_code_does_not_meet_them(self, calls, old, new) -> None:
        made_from(self.SOURCE)(1)
        changed = made_from(self.SOURCE.replace(old, new))
        assert changed(1) == changed.__wrapped__(1)
        assert calls == [1, 1, 1]

    def test_another_default_does_not_meet_them(self, calls) -> None:
        source = """
            @cacheable()
            def function(n, factor={}):
                return n * factor
        """
        assert made_from(source.format(2))(10) == 20
        assert made_from(source.format(3))(10) == 30

    def test_closures_over_other_values_do_not_meet(self) -> None:
        def times(factor):
            @cacheable()
            def function(n):
                return n * factor

            return function

        assert times(2)(10) == 20
        assert times(3)(10) == 30

    def test_other_code_below_another_decorator_does_not_meet_them(self) -> None:
        source = """
            def logged(function):
                @functools.wraps(function)
                def wrapper(*args):
                    return function(*args)
                return wrapper

            @cacheable()
            @logged
            def function(n):
                return n + {}
        """
        assert made_from(source.format(1), functools=functools)(10) == 11
        assert made_from(source.format(2), functools=functools)(10) == 12


class TestTags:
    @pytest.mark.parametrize("how", ["list", "tuple", "set", "function", "add_deps"])
    def test_each_way_to_give_them(self, how, calls) -> None:
        deps = {
            "list": ["Product:1", "Other"],
            "tuple": ("Product:1", "Other"),
            "set": {"Product:1", "Other"},
            "function": lambda n: [f"Product:{n}", "Other"],
            "add_deps": [],
        }[how]

        @cacheable(deps=deps)
        def function(n):
            Counter.calls.append(n)
            if how == "add_deps":
                add_deps([f"Product:{n}"])
                add_deps(tag for tag in ["Other"])
            return n

        for tag in ("Product:1", "Product", "Other"):
            function(1)
            function(1)
            invalidate("Product:2", "Product:1:below", "Prod", "Others")
            function(1)
            assert len(calls) == 1
            invalidate(tag)
            function(1)
            assert len(calls) == 2
            calls.clear()
            invalidate("Other")

    def test_a_generator_of_deps_serves_all_calls(self, calls) -> None:
        @cacheable(deps=(tag for tag in ["Product"]))
        def function(n):
            Counter.calls.append(n)

        for n in (1, 2, 1, 2):
            function(n)
        invalidate("Product")
        for n in (1, 2):
            function(n)
        assert calls == [1, 2, 1, 2]

    def test_clear_drops_those_without_tags_too(self, calls) -> None:
        double(1)
        zoocache.clear()
        double(1)
        assert calls == [1, 1]

    def test_add_deps_outside_of_a_computation_does_nothing(self) -> None:
        assert current_frame() is None
        add_deps(["Product"])

    def test_a_string_is_not_a_list_of_tags(self) -> None:
        with pytest.raises(TagError, match=r"write \['Product'\]"):
            cacheable(deps="Product")
        with pytest.raises(TagError, match=r"write \['Product'\]"):
            add_deps("Product")

    @pytest.mark.parametrize("tag", ["", "a::b", "a\0b", 5])
    def test_a_result_with_a_bad_tag_is_returned_and_not_kept(self, tag, calls, messages) -> None:
        @cacheable(deps=[tag])
        def function():
            Counter.calls.append(1)
            return 7

        assert [function(), function()] == [7, 7]
        assert len(calls) == 2
        (message,) = messages()
        assert "is not cached" in message

    def test_deps_that_cannot_be_computed_raise_to_the_caller(self) -> None:
        @cacheable(deps=lambda n: [f"Product:{1 // n}"])
        def function(n):
            return n

        with pytest.raises(ZeroDivisionError):
            function(0)
        assert current_frame() is None

    def test_an_invalidation_during_the_computation_counts(self, calls) -> None:
        @cacheable(deps=["Product"])
        def function():
            Counter.calls.append(1)
            read = "old"
            if len(calls) == 1:
                invalidate("Product:1", "Product")  # somebody writes after our read
            return read

        function()
        function()
        assert len(calls) == 2
        function()
        assert len(calls) == 2


class TestNested:
    def test_what_the_inner_depends_on_the_outer_does(self, calls) -> None:
        @cacheable(deps=["Product"])
        def inner():
            Counter.calls.append("inner")
            return 1

        @cacheable()
        def middle():
            Counter.calls.append("middle")
            return inner()

        @cacheable(deps=["Shop"])
        def outer():
            Counter.calls.append("outer")
            return middle() + inner()

        assert [outer(), outer()] == [2, 2]
        assert calls == ["outer", "middle", "inner"]
        invalidate("Product")
        assert [outer(), outer()] == [2, 2]
        assert calls[3:] == ["outer", "middle", "inner"]
        invalidate("Shop")
        assert [outer(), middle()] == [2, 1]
        assert calls[6:] == ["outer"]

    @pytest.mark.parametrize("tag", ["Product", "Shop"])
    def test_of_a_hit_too(self, calls, tag) -> None:
        @cacheable(deps=["Product", "Shop"])
        def inner():
            return 1

        @cacheable()
        def outer():
            Counter.calls.append("outer")
            return inner()

        inner()
        outer()
        outer()
        assert calls == ["outer"]
        invalidate(tag)
        outer()
        assert calls == ["outer", "outer"]

    @pytest.mark.parametrize("warm", [True, False])
    def test_an_inner_value_that_goes_stale_meanwhile_takes_the_outer_along(self, warm) -> None:
        source = ["old"]
        stop = []

        @cacheable(deps=["Product"])
        def inner():
            return source[0]

        @cacheable()
        def outer():
            value = inner()
            if stop:
                stop.pop()()
            return value

        def write() -> None:
            source[0] = "new"
            invalidate("Product")

        if warm:
            inner()
        stop.append(write)
        assert outer() == "old"  # it read before the write
        assert outer() == "new"
        assert inner() == "new"

    def test_what_a_hit_two_levels_down_depends_on(self, calls) -> None:
        @cacheable(deps=["Product"])
        def inner():
            return 1

        @cacheable()
        def middle():
            return inner()

        @cacheable()
        def outer():
            Counter.calls.append(1)
            return middle()

        inner()
        outer()
        outer()
        assert len(calls) == 1
        invalidate("Product")
        outer()
        assert len(calls) == 2

    def test_a_failed_inner_computation_counts(self, calls) -> None:
        @cacheable(deps=["Product"])
        def inner():
            raise LookupError

        @cacheable()
        def outer():
            Counter.calls.append(1)
            try:
                return inner()
            except LookupError:
                return "nothing"

        assert [outer(), outer()] == ["nothing", "nothing"]
        assert len(calls) == 1
        invalidate("Product")
        outer()
        assert len(calls) == 2

    def test_an_inner_result_that_cannot_be_kept_still_counts(self, calls) -> None:
        @cacheable(deps=["Product"])
        def inner():
            return Unstorable()

        @cacheable()
        def outer(thing):
            Counter.calls.append(1)
            inner()
            by_argument(Unstorable())
            return 1

        @cacheable(deps=["Shop"])
        def by_argument(thing):
            add_deps(["Town"])
            return 1

        outer(1)
        outer(1)
        assert len(calls) == 1
        for number, tag in enumerate(["Product", "Shop", "Town"], 2):
            invalidate(tag)
            outer(1)
            outer(1)
            assert len(calls) == number

    def test_recursion(self, calls) -> None:
        @cacheable(deps=lambda n: [f"n:{n}"])
        def factorial(n):
            Counter.calls.append(n)
            return n * factorial(n - 1) if n else 1

        assert factorial(5) == 120
        assert calls == [5, 4, 3, 2, 1, 0]
        invalidate("n:3")
        assert factorial(5) == 120
        assert calls[6:] == [5, 4, 3]


class TestResults:
    def test_none_is_a_result(self, calls) -> None:
        @cacheable()
        def function():
            Counter.calls.append(1)

        assert [function(), function()] == [None, None]
        assert len(calls) == 1

    def test_an_exception_is_not(self, calls) -> None:
        @cacheable()
        def function():
            Counter.calls.append(1)
            if len(calls) < 3:
                raise LookupError(len(calls))
            return "found"

        for number in (1, 2):
            with pytest.raises(LookupError, match=str(number)):
                function()
            assert current_frame() is None
        assert [function(), function()] == ["found", "found"]
        assert len(calls) == 3

    def test_one_that_cannot_be_stored_is_returned_and_said_once(self, calls, messages) -> None:
        @cacheable()
        def function():
            Counter.calls.append(1)
            return Unstorable()

        assert [type(function()), type(function())] == [Unstorable, Unstorable]
        assert len(calls) == 2
        (message,) = messages()
        assert "function is not cached: a " in message
        assert "Unstorable cannot be stored" in message

    def test_a_generator_is_not_stored_and_not_consumed(self, messages) -> None:
        @cacheable()
        def numbers():
            yield from (1, 2)

        assert [list(numbers()), list(numbers())] == [[1, 2], [1, 2]]
        assert len(messages()) == 1

    def test_one_that_is_too_large_is_returned(self, calls) -> None:
        @cacheable()
        def function():
            Counter.calls.append(1)
            return bytes(MIB)

        assert [function(), function()] == [bytes(MIB), bytes(MIB)]
        assert len(calls) == 2

    def test_bytes_that_no_longer_decode_are_a_miss(self, calls, monkeypatch) -> None:
        def decode(data):
            raise codec.StaleFormat("another version")

        double(1)
        with monkeypatch.context() as patch:
            patch.setattr(codec, "decode", decode)
            assert double(1) == 2
        assert calls == [1, 1]
        assert double(1) == 2
        assert calls == [1, 1]

    def test_ttl(self, calls) -> None:
        zoocache.configure(ttl=100)

        @cacheable()
        def by_setting():
            Counter.calls.append("setting")

        @cacheable(ttl=10)
        def by_decorator():
            Counter.calls.append("decorator")

        def call_after(seconds: float) -> list[object]:
            calls.clear()
            store.cache().segment.shift_time(seconds)
            by_setting()
            by_decorator()
            return list(calls)

        assert call_after(0) == ["setting", "decorator"]
        assert call_after(9) == []
        assert call_after(11) == ["decorator"]
        assert call_after(101) == ["setting", "decorator"]

    @pytest.mark.parametrize("ttl", [0, -1, float("nan")])
    def test_a_ttl_that_is_none_is_refused_at_the_decorator(self, ttl) -> None:
        with pytest.raises(ConfigError, match="positive number of seconds"):
            cacheable(ttl=ttl)


class TestAsync:
    def test_a_result_is_computed_once(self, calls) -> None:
        async def main() -> list[int]:
            return [await double_later(n) for n in (1, 1, 2)]

        assert asyncio.run(main()) == [2, 2, 4]
        assert asyncio.run(main()) == [2, 2, 4]
        assert calls == [1, 2]
        invalidate("Product")
        assert asyncio.run(main()) == [2, 2, 4]
        assert calls == [1, 2, 1, 2]

    def test_exceptions_and_none(self, calls) -> None:
        @cacheable()
        async def function(fail):
            Counter.calls.append(fail)
            await asyncio.sleep(0)
            if fail:
                raise LookupError

        async def main() -> None:
            for _ in range(2):
                with pytest.raises(LookupError):
                    await function(True)
                assert await function(False) is None

        asyncio.run(main())
        assert calls == [True, False, True]

    def test_tasks_that_take_turns_keep_their_tags_apart(self, calls) -> None:
        @cacheable()
        async def function(tag, turns):
            Counter.calls.append(tag)
            for _ in range(turns):
                await asyncio.sleep(0)
                add_deps([tag])
            return await inner(tag)

        @cacheable()
        async def inner(tag):
            await asyncio.sleep(0)
            add_deps([f"inner-{tag}"])
            return tag

        async def main() -> list[str]:
            results = await asyncio.gather(function("a", 3), function("b", 1), function("c", 2))
            assert current_frame() is None
            return results

        assert asyncio.run(main()) == ["a", "b", "c"]
        for tags in (["a", "inner-a"], ["b", "inner-b"], ["c", "inner-c"]):
            for tag in tags:
                calls.clear()
                invalidate(tag)
                asyncio.run(main())
                assert calls == [tags[0]]

    def test_an_invalidation_while_it_waits_counts(self) -> None:
        async def main() -> list[str]:
            source, reading, written = ["old"], asyncio.Event(), asyncio.Event()

            @cacheable(deps=["Product"], key=lambda: 1)
            async def function():
                value = source[0]
                reading.set()
                await written.wait()
                return value

            first = asyncio.create_task(function())
            await reading.wait()
            source[0] = "new"
            invalidate("Product")
            written.set()
            return [await first, await function(), await function()]

        assert asyncio.run(main()) == ["old", "new", "new"]

    def test_sync_inside_async_and_in_a_thread_of_it(self, calls) -> None:
        @cacheable(deps=["Product"])
        def inner(n):
            Counter.calls.append(n)
            return n

        @cacheable()
        async def outer():
            Counter.calls.append("outer")
            return inner(1) + await asyncio.to_thread(inner, 2)

        assert asyncio.run(outer()) == 3
        assert asyncio.run(outer()) == 3
        assert calls == ["outer", 1, 2]
        invalidate("Product")
        asyncio.run(outer())
        assert calls[3:] == ["outer", 1, 2]


class TestThreads:
    def test_they_share_entries_and_keep_tags_apart(self, calls) -> None:
        together = threading.Barrier(4)

        @cacheable(key=lambda tag: tag)
        def function(tag):
            Counter.calls.append(tag)
            together.wait(10)
            add_deps([tag])
            together.wait(10)
            return tag

        tags = ["a", "b", "c", "d"]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(function, tags)) == tags
            assert list(pool.map(function, tags * 5)) == tags * 5
        assert sorted(calls) == tags
        together.reset()
        invalidate("a")
        assert function("b") == "b"
        assert len(calls) == 4
        with ThreadPoolExecutor(4) as pool:
            stuck = pool.submit(function, "a")
            assert not stuck.done()
            for _ in range(2):
                for _ in range(3):
                    pool.submit(together.wait, 10)
            assert stuck.result(10) == "a"

    def test_a_computation_overtaken_by_another_thread_is_not_kept(self) -> None:
        reading, written = threading.Event(), threading.Event()
        source = ["old"]

        @cacheable(deps=["Product"], key=lambda: 1)
        def function():
            value = source[0]
            reading.set()
            assert written.wait(10)
            return value

        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(function)
            assert reading.wait(10)
            source[0] = "new"
            invalidate("Product")
            written.set()
            assert first.result(10) == "old"
        assert function() == "new"

    def test_an_older_computation_does_not_replace_a_newer_result(self, monkeypatch) -> None:
        """A thread that began earlier and stores later leaves what is there."""
        outcomes = []
        target = store.cache()
        fill = target.fill

        def watched(*args, **more):
            outcomes.append(fill(*args, **more))
            return outcomes[-1]

        monkeypatch.setattr(target, "fill", watched)
        reading, proceed = threading.Event(), threading.Event()
        results = iter(["from the slow one", "from the fast one"])

        @cacheable(key=lambda: 1, wait=0.05)  # so long the fast one waits for the slow one
        def function():
            result = next(results)
            if result == "from the slow one":
                reading.set()
                assert proceed.wait(10)
            return result

        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(function)
            assert reading.wait(10)
            invalidate("Something:else")  # only that advances the clock
            assert function() == "from the fast one"
            proceed.set()
            assert slow.result(10) == "from the slow one"
        assert outcomes == [Outcome.STORED, Outcome.OLDER]
        assert function() == "from the fast one"


class TestContext:
    def test_the_function_runs_in_the_context_of_its_caller(self) -> None:
        user = contextvars.ContextVar("user", default="nobody")

        @cacheable(key=lambda: user.get())
        def function():
            seen = user.get()
            user.set("somebody else")
            return seen

        user.set("alice")
        assert function() == "alice"
        assert user.get() == "somebody else"

    def test_a_copied_context_that_outlives_the_computation_is_harmless(self) -> None:
        contexts = []

        @cacheable(deps=["Product"])
        def function():
            contexts.append(contextvars.copy_context())
            return 1

        function()
        contexts[0].run(add_deps, ["Too:late"])
        assert current_frame() is None
        assert contexts[0].run(double, 3) == 6


class Transaction:
    """A framework whose transaction is open."""

    def __init__(self, stamp: int | None = None, clean: bool = True) -> None:
        self.answer = store.Guard(stamp, clean, usual=False)

    def expand(self, tag):
        return []

    def depend(self, tag):
        return [f"@{tag}"]

    def observe(self, tags):
        pass

    def guard(self):
        return self.answer

    def allows_local(self):
        return True


class TestFrameworks:
    def test_in_a_snapshot_a_result_is_as_old_as_that(self, calls) -> None:
        @cacheable(deps=["Product"])
        def function():
            Counter.calls.append(1)
            return 1

        transaction = Transaction(store.cache().stamp())
        invalidate("Product")  # after the snapshot: what is read in it is old
        store.register_framework(transaction)
        function()
        function()
        assert len(calls) == 2
        transaction.answer = store.Guard(store.cache().stamp(), True)
        function()
        function()
        assert len(calls) == 3

    def test_what_reads_uncommitted_rows_neither_hits_nor_is_kept(self, calls) -> None:
        @cacheable(key="outer")
        def outer():
            Counter.calls.append("outer")
            transaction.answer = store.Guard(None, began_clean and len(calls) > 1)
            return double(1)

        began_clean = False
        transaction = Transaction()
        store.register_framework(transaction)
        double(1)
        calls.clear()
        transaction.answer = store.Guard(None, False)
        assert [double(1), outer(), outer()] == [2, 2, 2]
        assert calls == [1, "outer", 1, "outer", 1]
        calls.clear()
        began_clean, transaction.answer = True, store.Guard(None, True)
        outer()  # it begins clean and becomes unclean on the way
        assert calls == ["outer", 1]
        transaction.answer = store.Guard(None, True)
        outer()
        outer()
        assert calls == ["outer", 1, "outer"]

    def test_uncommitted_rows_two_levels_down_count(self, calls) -> None:
        transaction = Transaction()
        store.register_framework(transaction)

        @cacheable()
        def middle():
            transaction.answer = store.Guard(None, False)
            return double(1)

        @cacheable()
        def outer():
            Counter.calls.append("outer")
            value = middle()
            transaction.answer = store.Guard(None, True)  # rolled back
            return value

        outer()
        outer()
        assert calls == ["outer", 1, "outer", 1]

    def test_a_snapshot_that_ended_meanwhile_dates_the_outer_too(self, calls) -> None:
        transaction = Transaction()
        store.register_framework(transaction)
        old = store.cache().stamp()
        invalidate("Product")

        @cacheable(deps=["Product"])
        def inner():
            return 1

        @cacheable()
        def outer():
            Counter.calls.append(1)
            transaction.answer = store.Guard(old, True)
            inner()
            transaction.answer = store.Guard(None, True)

        outer()
        outer()
        assert len(calls) == 2

    def test_they_add_to_what_a_dependency_means(self, calls) -> None:
        @cacheable(deps=["Product:1"])
        def function():
            Counter.calls.append(1)

        store.register_framework(Transaction())
        function()
        store.bump(["@Product:1"])
        function()
        assert len(calls) == 2


class TestWithoutACache:
    @pytest.mark.parametrize("trouble", ["disabled", "garbled", "a bad setting"])
    def test_everything_is_computed(self, trouble, calls, messages, monkeypatch) -> None:
        if trouble == "disabled":
            zoocache.configure(enabled=False)
        elif trouble == "garbled":
            path = Path(path_of(store.cache().segment.name))
            path.write_bytes(b"\xa5" * MIB)
            config.changed()
        else:
            monkeypatch.setenv("ZOOCACHE_TTL", "soon")
            config.changed()
        assert [double(1), double(1), asyncio.run(double_later(2))] == [2, 2, 4]
        assert calls == [1, 1, 2]
        assert len(messages()) == (trouble != "disabled")
        add_deps(["Product"])
