"""An operation in the middle of another of the same thread: by a signal handler, a finaliser, a
profiler, an argument that is a generator or has code of its own."""

from __future__ import annotations

import gc
import sys

import pytest

from zoocache.shm import Cache, Outcome


@pytest.fixture
def interrupted_everywhere():
    """Runs `act` after each C function that Python code calls; not while it runs itself."""

    def start(act):
        def profile(frame, event, argument):
            if event == "c_return":
                act()

        sys.setprofile(profile)

    before = sys.getprofile()
    yield start
    sys.setprofile(before)


def test_a_get_within_a_get_does_not_change_its_value(cache: Cache, interrupted_everywhere):
    cache.set("outer", b"O" * 100)
    cache.set("inner", b"I" * 100)
    inner = []
    interrupted_everywhere(lambda: inner.append(cache.get("inner")))
    outer = [cache.get("outer") for _ in range(10)]
    found = [cache.get_with_deps("outer") for _ in range(10)]
    sys.setprofile(None)
    assert len(inner) > 20
    assert set(inner) == {b"I" * 100}
    assert outer == [b"O" * 100] * 10
    assert [f.value for f in found] == [b"O" * 100] * 10


def test_keys_that_come_from_a_generator_which_uses_the_cache(cache: Cache):
    cache.set("outer", b"O" * 100)
    cache.set("inner", b"I" * 100)

    def keys():
        for _ in range(100):
            assert cache.get_many(["inner", "absent"]) == [b"I" * 100, None]
            cache.set("inner", b"I" * 100, tags=(cache.get("outer") and "t" for _ in range(3)))
            yield "outer"

    assert cache.get_many(keys()) == [b"O" * 100] * 100


def test_tags_that_come_from_a_generator_which_writes_the_key(cache: Cache):
    """What is stored is what was given, under the tags that were given."""

    def tags():
        cache.set("key", b"inner", tags=["Other"])
        cache.invalidate("Product")
        yield "Product"
        cache.delete("key")
        yield "Shop"

    cache.set("key", b"outer", tags=tags())
    assert cache.get("key") == b"outer"
    cache.invalidate("Other")
    assert cache.get("key") == b"outer"
    cache.invalidate("Shop")
    assert cache.get("key") is None


class Mutating(str):
    """A key whose hash changes the dict that it is a key of."""

    victim: dict[object, bytes] = {}

    def __hash__(self) -> int:
        self.victim.clear()
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other)


def test_set_many_of_a_dict_that_is_emptied_meanwhile(cache: Cache):
    """By a key's own code, or by another thread: what was taken from it must stay alive."""
    too_large = bytes(cache.segment.max_record)
    for _ in range(100):
        items = {Mutating(f"key {i}"): too_large for i in range(50)}
        Mutating.victim = items
        failed = cache.set_many(items)
        assert set(map(str, failed)) <= {f"key {i}" for i in range(50)}
        assert all(outcome is Outcome.TOO_LARGE for outcome in failed.values())


def test_a_finaliser_in_the_middle_of_a_get(cache: Cache):
    """The collector runs it when the tuple of a find is made."""
    cache.set("outer", b"O" * 100, tags=["t"])
    cache.set("inner", b"I" * 10)
    seen = []

    class Finalised:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            seen.append((cache.get("inner"), cache.get_with_deps("outer").value))

    before = gc.get_threshold()
    gc.set_threshold(5)
    try:
        for _ in range(2000):
            Finalised()
            assert cache.get_with_deps("outer").value == b"O" * 100
            assert cache.get_many(["inner", "outer"]) == [b"I" * 10, b"O" * 100]
    finally:
        gc.set_threshold(*before)
        gc.collect()  # those that are left need the segment, too
    assert len(seen) > 100
    assert set(seen) == {(b"I" * 10, b"O" * 100)}
