"""What once broke below any framework: each test is named after it."""

from __future__ import annotations

import collections
import enum
import fcntl
import functools
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import zoocache
from zoocache import cacheable, config, store
from zoocache.exceptions import ConfigError
from zoocache.shm import MIN_SIZE, Cache, Outcome, Segment, path_of
from zoocache.shm._core import ffi, lib

# Python warns of a fork beside threads: that is what is tested.
forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


# What a function and a call are


def is_cached(default_cache: Cache, call: Callable[[], object]) -> bool:
    call()
    before = default_cache.stats()["hits"]
    call()
    return default_cache.stats()["hits"] > before


def test_functions_that_differ_by_what_they_close_over(default_cache: Cache) -> None:
    def make(factor: int) -> Callable[[int], int]:
        @cacheable()
        def scale(number: int) -> int:
            return number * factor

        return scale

    double, triple = make(2), make(3)
    assert is_cached(default_cache, lambda: double(10))
    assert (double(10), triple(10), make(2)(10)) == (20, 30, 20)


def test_lambdas_that_differ_by_a_default(default_cache: Cache) -> None:
    double, triple = [cacheable()(lambda number, by=by: number * by) for by in (2, 3)]
    assert is_cached(default_cache, lambda: double(10))
    assert (double(10), triple(10)) == (20, 30)


def test_a_default_that_a_deploy_changed(default_cache: Cache) -> None:
    def deploy(definition: str) -> Callable[[int], int]:
        module = types.ModuleType("deployed")
        exec(definition, module.__dict__)
        return cacheable()(module.tax)

    for definition in (
        "def tax(x, rate={}): return x * rate",
        "def tax(x, *, rate={}): return x * rate",
    ):
        old, new = deploy(definition.format(2)), deploy(definition.format(3))
        assert is_cached(default_cache, functools.partial(old, 10))
        assert (old(10), new(10)) == (20, 30)


def multiply(factor: int, number: int) -> int:
    return number * factor


def test_partials_that_differ_by_their_arguments(default_cache: Cache) -> None:
    """They have no name of their own."""
    double, triple = [cacheable()(functools.partial(multiply, by)) for by in (2, 3)]
    named = cacheable()(functools.partial(multiply, number=7))
    assert (double(10), triple(10), named(10)) == (20, 30, 70)
    assert (double(10), triple(10), named(10)) == (20, 30, 70)


Celsius = collections.namedtuple("Celsius", "degrees")
Fahrenheit = collections.namedtuple("Fahrenheit", "degrees")


@cacheable()
def unit(temperature: tuple[int]) -> str:
    return type(temperature).__name__


def test_namedtuples_that_are_equal_as_tuples(default_cache: Cache) -> None:
    assert is_cached(default_cache, lambda: unit((5,)))
    for _ in range(2):
        assert [unit(kind) for kind in (Celsius(5), Fahrenheit(5), (5,))] == [
            "Celsius",
            "Fahrenheit",
            "tuple",
        ]


@cacheable()
def value_of(member: enum.Enum) -> object:
    return member.value


def test_an_enum_argument_whose_value_a_deploy_changed(
    default_cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("deployed")
    monkeypatch.setitem(sys.modules, "deployed", module)

    def deploy(value: str) -> enum.Enum:
        exec(f"import enum\nclass Kind(enum.Enum):\n    X = {value!r}\n", module.__dict__)
        return module.Kind.X

    old = deploy("old")
    assert is_cached(default_cache, lambda: value_of(old))
    assert value_of(deploy("new")) == "new"


@pytest.mark.parametrize("ttl", [float("inf"), float("nan"), 1e30, 10**400, 0, -1])
def test_a_ttl_that_the_core_cannot_count(ttl: float) -> None:
    with pytest.raises(ConfigError, match="at most a hundred years"):
        cacheable(ttl=ttl)
    with pytest.raises(ConfigError, match="at most a hundred years"):
        zoocache.configure(ttl=ttl)


# Overtaken and interrupted


def test_a_fill_does_not_replace_a_set_of_the_same_clock(cache: Cache) -> None:
    """A set does not tick the clock: on a quiet host both have one stamp."""
    stamp = cache.stamp()
    cache.set("key", b"new")
    assert cache.stamp() == stamp
    assert cache.fill("key", b"old", stamp) is Outcome.OLDER
    assert cache.get("key") == b"new"


def get_without_guard(cache: Cache) -> Callable[[bytes], bytes | None]:
    """A get as it must not be: all gets, one within the other too, share a buffer."""
    value, needed = ffi.new("char[4096]"), ffi.new("uint64_t *")
    handle, zoo_get, unpack = cache.segment.handle, lib.zoo_get, ffi.unpack

    def get(key: bytes) -> bytes | None:
        n = zoo_get(handle, key, len(key), value, 4096, needed)
        return unpack(value, n) if n >= 0 else None

    return get


def wrong_values(get: Callable[[bytes], bytes | None], seconds: float) -> Iterator[bytes | None]:
    """What `get` gives for "outer" that is not its value, while a signal handler gets "inner"."""
    before = signal.signal(signal.SIGALRM, lambda *_: get(b"inner"))
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(100):
                value = get(b"outer")
                if value != b"O" * 100:
                    yield value
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_signal_handler_in_the_middle_of_a_get(cache: Cache) -> None:
    cache.set("outer", b"O" * 100)
    cache.set("inner", b"I" * 100)
    # That the test can fail:
    assert next(wrong_values(get_without_guard(cache), 20)) == b"I" * 100
    assert list(wrong_values(cache.get, 1)) == []


# Forked meanwhile


def in_child(act: Callable[[], None], seconds: int) -> int:
    """The exit status of a forked child that runs `act`; minus the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)
        try:
            act()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@forks
@pytest.mark.parametrize("lock", [(config, "_lock"), (store, "_lock")], ids=["config", "store"])
def test_a_fork_while_another_thread_holds_a_lock(
    default_cache: Cache, lock: tuple[types.ModuleType, str]
) -> None:
    """The thread, which alone could release it, is not in the child."""

    def use() -> None:
        store.invalidate("tag")
        zoocache.configure(ttl=5)
        store.cache().set("key", b"by the child")
        os._exit(0)

    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with getattr(*lock):
            held.set()
            go.wait()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(hold)
        held.wait()
        try:
            assert in_child(use, 3) == 0
        finally:
            go.set()
    assert default_cache.get("key") == b"by the child"


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def times_open(path: Path) -> int:
    links = [Path(entry) for entry in Path("/proc/self/fd").iterdir()]
    return sum(link.is_symlink() and os.readlink(link) == str(path) for link in links)


@forks
def test_a_child_forked_by_another_thread_during_a_creation_keeps_no_lock(
    segment_name: str,
) -> None:
    """It has the creator's descriptor, and so the creator's lock, until somebody releases it."""
    path = Path(path_of(segment_name))
    path.touch(0o600)
    with path.open("r+b") as first, ThreadPoolExecutor(1) as pool:
        fcntl.flock(first, fcntl.LOCK_EX)
        creator: Any = pool.submit(Segment, segment_name, MIN_SIZE, wait=10)
        wait_until(lambda: times_open(path) == 2)
        alive, to_child = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(to_child)
            os.read(alive, 1)  # until the parent is done
            os._exit(0)
        os.close(alive)
        try:
            fcntl.flock(first, fcntl.LOCK_UN)
            assert creator.result(timeout=10).size >= MIN_SIZE
            with path.open("r+b") as other:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(to_child)
            os.waitpid(pid, 0)
