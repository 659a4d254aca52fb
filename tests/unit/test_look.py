"""What people are shown of a segment: its parts, its entries, what is asked for, who is there."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter

import pytest

from zoocache.shm import MIN_SIZE, Cache, Segment
from zoocache.shm.intent import End
from zoocache.shm.look import CELLS, Asked, census, owner_pids, shape_of

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def test_shape_and_census_of_a_new_segment(cache: Cache) -> None:
    shape, found = shape_of(cache), census(cache)
    assert shape.probation.written == shape.main.written == 0
    assert 0 < shape.probation.size + shape.main.size < cache.segment.size == MIN_SIZE
    assert 0 <= shape.age < 60
    assert shape.active_lanes == shape.miss_until == 0
    assert found.entries == found.lost == found.crowded == 0
    assert found.share == 1


def test_entries_are_counted_by_their_state(cache: Cache) -> None:
    for number in range(50):
        cache.set(f"fresh{number}", b"x" * 100)
        cache.set(f"stale{number}", b"x" * 100, tags=["t"])
    cache.set("short", b"v", ttl=5)
    cache.invalidate("t")
    cache.segment.shift_time(6)
    found, report = census(cache), cache.segment.check()
    assert found.entries == report.entries
    assert found.stale + found.expired + found.fresh == report.entries
    assert 45 <= found.stale <= 50  # a full bucket evicts
    assert found.expired <= 1
    drawn = [sum(cells) for cells in found.fresh_in.values()]
    assert sum(drawn) == found.fresh_bytes
    assert {len(cells) for cells in found.other_in.values()} == {CELLS}
    written = shape_of(cache).main.written
    assert written == shape_of(cache).main.head * shape_of(cache).main.size > 0


def test_a_census_of_some_buckets_is_extrapolated(segment_name: str) -> None:
    cache = Cache(Segment(segment_name, 8 << 20))
    for number in range(20000):
        cache.set(f"key{number}", b"x" * 50)
    whole = census(cache)
    for turn in range(8):
        some = census(cache, most_buckets=1024, turn=turn)
        assert some.share == 1 / 8
        assert abs(some.fresh / whole.fresh - 1) < 0.1
        assert abs(some.fresh_bytes / whole.fresh_bytes - 1) < 0.1


def test_what_is_announced_is_told(cache: Cache) -> None:
    cache.set("key", b"v", tags=["t"])
    intent = cache.intent()
    intent.announce(["t"], "", 0)
    assert census(cache).pending == 1
    assert shape_of(cache).active_lanes == 1
    assert owner_pids(cache) == [os.getpid()]
    intent.settle(End.ROLLED_BACK)
    assert census(cache).fresh == 1


def test_keys_are_sampled_as_they_are_asked_for(cache: Cache) -> None:
    """A tenth of the gets is about a tenth of the samples."""
    cache.set("often", b"v")
    cache.set("seldom", b"v")
    asked, seen = Asked(cache), Counter[bytes | None]()
    for _ in range(4000):
        for _ in range(9):
            cache.get("often")
        cache.get("seldom")
        seen.update(map(asked.key_of, asked.new()))
    assert set(seen) == {b"often", b"seldom"}
    assert 700 < seen[b"often"] + seen[b"seldom"] < 1000  # 40,000 gets, one in 48
    assert 0.05 < seen[b"seldom"] / seen[b"often"] < 0.2
    assert list(asked.new()) == []  # nothing is seen twice


def test_what_others_ask_for_is_sampled(cache: Cache) -> None:
    """What is not in the cache, too: it has no name."""
    cache.set("there", b"v")
    asked, seen = Asked(cache), set()
    pid = os.fork()
    if pid == 0:
        try:
            while True:
                cache.get("there")
                cache.get("elsewhere")
        finally:
            os._exit(0)
    try:
        end = time.monotonic() + 60
        while seen != {b"there", None}:
            assert time.monotonic() < end, seen
            seen |= set(map(asked.key_of, asked.new()))
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_looking_counts_as_nothing(cache: Cache) -> None:
    cache.set("key", b"v")
    before = cache.stats()
    Asked(cache)
    census(cache), shape_of(cache), owner_pids(cache)
    assert cache.stats() == before
