"""Changes of an entry in place, sizes around the limit, batches, and keys of a cache in use."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any

import pytest

from zoocache.exceptions import NotANumberError, ZooCacheError
from zoocache.shm import MIN_SIZE, Cache, Outcome, Segment

MOST, LEAST = 2**63 - 1, -(2**63)
SOON = 20  # seconds in which whatever needs none must be over


class TestSizes:
    def largest(self, cache: Cache, key: str, **options: Any) -> int:
        """The length of the longest value that can be stored, found by trying."""
        low, high = 0, cache.segment.max_record
        while low < high:
            middle = (low + high + 1) // 2
            fits = cache.set(key, bytes(middle), **options) is Outcome.STORED
            low, high = (middle, high) if fits else (low, middle - 1)
        return low

    def test_around_the_limit(self, segment_name: str) -> None:
        cache = Cache(Segment(segment_name, 4 * MIN_SIZE))
        most = self.largest(cache, "key")
        assert cache.segment.max_record - 64 <= most < cache.segment.max_record
        value = random.Random(1).randbytes(most)
        for size in (most - 8, most - 1, most):
            assert cache.set("key", value[:size]) is Outcome.STORED
            assert cache.get("key") == value[:size]
            assert cache.compare_and_set("key", value[:size], value)
            assert cache.get("key") == value
        over = bytes(most + 1)
        before = cache.stats()["too_large"]
        assert cache.add("key", over) is False
        assert cache.fill("key", over, cache.stamp()) is Outcome.TOO_LARGE
        assert cache.get("key") == value  # these two may leave an older value
        with pytest.raises(ZooCacheError, match="b'key' would be too large for the segment"):
            cache.compare_and_set("key", value, over)
        assert cache.get("key") == value
        assert cache.replace("key", over) is False
        assert cache.get("key") is None  # these may not
        cache.set("key", b"old")
        assert cache.set("key", over) is Outcome.TOO_LARGE
        assert cache.get("key") is None
        assert cache.set_many({"key": over, "fits": b"v"}) == {"key": Outcome.TOO_LARGE}
        assert cache.get_many(["key", "fits"]) == [None, b"v"]
        assert cache.stats()["too_large"] >= before + 4

    def test_key_and_tags_count(self, cache: Cache) -> None:
        plain = self.largest(cache, "k")
        assert 1016 <= plain - self.largest(cache, "k" * 1024) <= 1024
        assert plain - self.largest(cache, "k", tags=[f"t{n}" for n in range(100)]) == 800


class TestBatches:
    def test_of_nothing(self, cache: Cache) -> None:
        assert [cache.get_many(none) for none in ([], (), {}, set(), iter([]))] == [[]] * 5
        assert cache.set_many({}) == {}
        assert cache.stats()["hits"] == cache.stats()["sets"] == 0

    def test_the_order_and_the_number_are_those_of_the_keys(self, cache: Cache) -> None:
        cache.set_many({"a": b"1", "b": b"2", b"c": b"3"})
        keys = ["b", "x", "b", b"c", "a", b"b"]
        wanted = [b"2", None, b"2", b"3", b"1", b"2"]
        for form in (keys, tuple(keys), (key for key in keys), dict.fromkeys(range(6))):
            given = map(dict(enumerate(keys)).get, form) if isinstance(form, dict) else form
            assert cache.get_many(given) == wanted

    def test_two_names_of_one_key(self, cache: Cache) -> None:
        assert cache.set_many({"key": b"first", b"key": b"second"}) == {}
        assert cache.get("key") == b"second"

    def test_what_is_not_stored_is_named_as_it_was_given(self, cache: Cache) -> None:
        over = bytes(cache.segment.max_record)
        outcomes = cache.set_many({"text": over, b"bytes": over, "good": b"v"}, ttl=5, tags=["t"])
        assert outcomes == {"text": Outcome.TOO_LARGE, b"bytes": Outcome.TOO_LARGE}
        assert all(type(outcome) is Outcome for outcome in outcomes.values())
        cache.invalidate("t")
        assert cache.get("good") is None

    def test_any_mapping_will_do(self, cache: Cache) -> None:
        assert cache.set_many(MappingProxyType({"key": b"v"})) == {}
        assert cache.get("key") == b"v"

    def test_a_generator_that_fails(self, cache: Cache) -> None:
        def keys() -> Any:
            yield "key"
            raise LookupError("the caller's own")

        with pytest.raises(LookupError, match="the caller's own"):
            cache.get_many(keys())

    def test_one_call_into_c(self, cache: Cache) -> None:
        calls: list[str] = []

        def profile(frame: object, event: str, argument: Any) -> None:
            if event in ("c_call", "call"):
                calls.append(argument.__name__ if event == "c_call" else "python")

        items = {f"key {n}": b"%d" % n for n in range(500)}
        sys.setprofile(profile)
        try:
            cache.set_many(items, tags=["t"])
            found = cache.get_many(items)
        finally:
            sys.setprofile(None)
        assert found == list(items.values())
        assert calls == ["set_many", "get_many", "setprofile"]


class TestIncr:
    @pytest.mark.parametrize(
        ("value", "delta", "result"),
        [
            (b"41", 1, 42), (b"0", -1, -1), (b"-1", 1, 0), (b"5", 0, 5), (b"-0", 0, 0),
            (b"007", 1, 8), (b"0", MOST, MOST), (b"0", LEAST, LEAST), (b"-1", LEAST + 1, LEAST),
            (b"%d" % MOST, LEAST, -1), (b"%d" % LEAST, MOST, -1), (b"%d" % MOST, 0, MOST),
            (b"%d" % (MOST - 1), 1, MOST), (b"%d" % (LEAST + 1), -1, LEAST), (b"1", True, 2),
        ],
    )  # fmt: skip
    def test_a_number(self, cache: Cache, value: bytes, delta: int, result: int) -> None:
        cache.set("key", value)
        assert cache.incr("key", delta) == result
        assert cache.get("key") == b"%d" % result

    @pytest.mark.parametrize(
        ("value", "delta"), [(MOST, 1), (LEAST, -1), (MOST, MOST), (LEAST, LEAST), (1, MOST)]
    )
    def test_no_room(self, cache: Cache, value: int, delta: int) -> None:
        cache.set("key", b"%d" % value)
        with pytest.raises(OverflowError, match=f"b'key' plus {delta} does not fit 64 bits"):
            cache.incr("key", delta)
        assert cache.get("key") == b"%d" % value

    @pytest.mark.parametrize("delta", [MOST + 1, LEAST - 1, 10**30])
    def test_a_delta_that_is_too_large(self, cache: Cache, delta: int) -> None:
        cache.set("key", b"0")
        with pytest.raises(OverflowError, match=f"{delta} does not fit 64 bits"):
            cache.incr("key", delta)
        assert cache.get("key") == b"0"

    @pytest.mark.parametrize(
        "value",
        [b"", b"-", b"+1", b" 1", b"1 ", b"1\n", b"1.0", b"1e3", b"0x1", b"1_000", b"--1", b"one",
         b"%d" % (MOST + 1), b"%d" % (LEAST - 1), b"9" * 500, b"1\0", "\u0661".encode()],
    )  # fmt: skip
    def test_no_number(self, cache: Cache, value: bytes) -> None:
        cache.set("key", value)
        with pytest.raises(NotANumberError, match="b'key' is not a decimal number of 64 bits"):
            cache.incr("key")
        assert cache.get("key") == value

    def test_it_keeps_expiry_and_tags(self, cache: Cache) -> None:
        for lose in (lambda: cache.segment.shift_time(6), lambda: cache.invalidate("t")):
            cache.segment.shift_time(0)
            cache.set("key", b"9", ttl=5, tags=["t:1"])
            assert cache.incr("key") == 10
            lose()
            assert cache.get("key") is None
            assert cache.incr("key") is None

    def test_no_update_is_lost_between_threads(self, cache: Cache) -> None:
        cache.set("key", b"0")
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: [cache.incr("key", 3) for _ in range(2000)], range(4)))
        assert cache.get("key") == b"%d" % (4 * 2000 * 3)


class TestTouch:
    def test_it_gives_more_time_less_or_for_ever(self, cache: Cache) -> None:
        for first, then, later, found in [
            (5, 50, 40, b"v"), (50, 5, 6, None), (5, None, 1e9, b"v"), (None, 5, 6, None),
            (5, 5, 4, b"v"), (None, None, 1e9, b"v"), (50, 0, 1, None), (50, -5, 1, None),
        ]:  # fmt: skip
            cache.segment.shift_time(0)
            cache.set("key", b"v", ttl=first)
            assert cache.touch("key", ttl=then) is True
            cache.segment.shift_time(later)
            assert cache.get("key") == found, (first, then, later)

    def test_value_and_tags_stay(self, cache: Cache) -> None:
        value = bytes(range(256)) * 40
        for tag in ("a", "a:b", "c"):
            cache.set("key", value, ttl=5, tags=["a:b", "c"])
            before = cache.get_with_deps("key")
            assert cache.touch("key", ttl=60)
            after = cache.get_with_deps("key")
            assert before is not None
            assert after is not None
            assert after[:4] == before[:4]
            assert after.expiry > before.expiry
            cache.invalidate(tag)
            assert cache.get("key") is None

    def test_an_old_value_does_not_become_new(self, cache: Cache) -> None:
        """It keeps its stamp, too: a fill that began later replaces it."""
        cache.fill("key", b"old", cache.stamp())
        cache.invalidate("anything")
        stamp = cache.stamp()
        assert cache.touch("key", ttl=60)
        assert cache.fill("key", b"new", stamp) is Outcome.STORED
        assert cache.get("key") == b"new"


class TestCompareAndSet:
    def test_it_changes_what_is_expected_only(self, cache: Cache) -> None:
        cache.set("key", b"")
        for expected, value, done in [
            (b"\0", b"x", False), (b"", b"a", True), (b"", b"x", False), (b"A", b"x", False),
            (b"a\0", b"x", False), (b"a", b"a", True), (b"a", b"L" * 5000, True),
            (b"L" * 4999 + b"M", b"x", False), (b"L" * 5000, b"", True),
        ]:  # fmt: skip
            before = cache.get("key")
            assert cache.compare_and_set("key", expected, value) is done
            assert cache.get("key") == (value if done else before)

    def test_it_keeps_expiry_and_tags(self, cache: Cache) -> None:
        for lose in (lambda: cache.segment.shift_time(6), lambda: cache.invalidate("t")):
            cache.segment.shift_time(0)
            cache.set("key", b"a", ttl=5, tags=["t:1"])
            assert cache.compare_and_set("key", b"a", b"b")
            lose()
            assert cache.get("key") is None
            assert not cache.compare_and_set("key", b"b", b"c")

    def test_of_many_threads_one_succeeds_at_a_time(self, cache: Cache) -> None:
        cache.set("key", b"0")

        def add_up(_: int) -> None:
            for _ in range(500):
                while True:
                    seen = cache.get("key")
                    assert seen is not None
                    if cache.compare_and_set("key", seen, b"%d" % (int(seen) + 1)):
                        break

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(add_up, range(4)))
        assert cache.get("key") == b"2000"


class TestDelete:
    def test_a_fill_under_way_cannot_bring_it_back(self, cache: Cache) -> None:
        for there in (True, False):
            stamp = cache.stamp()
            if there:
                cache.set("key", b"v")
            assert cache.delete("key") is there
            assert cache.delete("key") is False
            assert cache.fill("key", b"old", stamp) is Outcome.BORN_DEAD
            assert cache.get("key") is None
        assert cache.add("key", b"new") is True
        assert cache.get("key") == b"new"

    def test_of_other_keys_nothing(self, cache: Cache) -> None:
        cache.set_many({"key": b"1", "key:": b"2", "ke": b"3"}, tags=["key"])
        cache.delete("key")
        assert cache.get_many(["key", "key:", "ke"]) == [None, b"2", b"3"]


class TestKeysOfACacheInUse:
    def test_what_stays_is_seen_and_nothing_that_never_was(self, segment_name: str) -> None:
        """One thread sets, deletes, invalidates and clears nothing of what stays."""
        cache = Cache(Segment(segment_name, 16 * MIN_SIZE))
        staying = {b"stays %d" % n for n in range(500)}
        gone = {b"gone %d" % n for n in range(500)}
        cache.set_many(dict.fromkeys(staying | gone, b"v"))
        for key in gone:
            cache.delete(key)
        stop, rounds = threading.Event(), [0]

        def change() -> None:
            while not stop.is_set():
                rounds[0] += 1
                coming = {b"comes %d" % n: b"v" for n in range(200)}
                cache.set_many(coming, tags=["t"])
                for key in list(coming)[::2]:
                    cache.delete(key)
                cache.invalidate("t")
                for key in staying:  # each time, so that the log never laps one
                    cache.set(key, b"w" * (rounds[0] % 300))

        with ThreadPoolExecutor(1) as pool:
            changing = pool.submit(change)
            try:
                for _ in range(40):
                    seen = set(cache.keys())
                    assert staying <= seen
                    assert not seen & gone
                    assert all(key in staying or key.startswith(b"comes ") for key in seen)
                before = rounds[0]
                slow = cache.keys()
                first = next(slow)
                while rounds[0] < before + 3:  # in the middle of an iteration
                    assert not changing.done()
                assert staying <= {first, *slow}
            finally:
                stop.set()
            changing.result(SOON)
        assert rounds[0] > 3

    def test_more_than_fits_one_call(self, segment_name: str) -> None:
        """Keys of the greatest length: a buffer takes some sixty of them."""
        cache = Cache(Segment(segment_name, 16 * MIN_SIZE))
        keys = {b"%1024d" % n for n in range(1000)}
        assert cache.set_many(dict.fromkeys(keys, b"")) == {}
        seen = list(cache.keys())
        assert (len(seen), set(seen)) == (1000, keys)

    def test_changes_by_whoever_iterates(self, cache: Cache) -> None:
        cache.set_many({f"key {n}": b"v" for n in range(300)})
        iteration = cache.keys()
        for key in iteration:
            assert cache.delete(key)
            cache.set(b"new", b"v")
        assert list(cache.keys()) == [b"new"]

    def test_an_iteration_that_is_given_up(self, cache: Cache) -> None:
        cache.set_many({f"key {n}": b"v" for n in range(300)})
        for _ in range(100):
            next(cache.keys())
        assert len(list(cache.keys())) == 300

    @pytest.mark.parametrize("end", [lambda c: c.clear(), lambda c: c.invalidate("t")])
    def test_dropped_in_the_middle(self, cache: Cache, end: Callable[[Cache], None]) -> None:
        """What is not read yet is not seen: a buffer of keys at most."""
        cache.set_many({b"%1024d" % n: b"" for n in range(200)}, tags=["t"])
        iteration = cache.keys()
        next(iteration)
        end(cache)
        assert len(list(iteration)) < 64 + 1
        assert list(cache.keys()) == []
