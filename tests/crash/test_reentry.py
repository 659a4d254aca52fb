"""A get interrupted by a get of the same thread: by a signal handler, a finaliser, a profiler."""

from __future__ import annotations

import sys

import pytest

from zoocache.shm import Cache


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
