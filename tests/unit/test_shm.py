"""The Python face of the core: arguments, outcomes, threads."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from zoocache.exceptions import InvalidKeyError, TagError
from zoocache.shm import Cache, Outcome, Segment, resize, unlink
from zoocache.shm.look import shape_of


def test_keys_are_bytes_or_text(cache: Cache):
    for key in ("käse", b"k", bytearray(b"array"), memoryview(b"view"), "\ud800", b"\0\xff"):
        assert cache.set(key, b"value") is Outcome.STORED
        assert cache.get(key) == b"value"
        assert cache.delete(key) is True
        assert cache.get(key) is None
    cache.set("käse", b"value")
    assert cache.get("käse".encode()) == b"value"


@pytest.mark.parametrize(
    ("key", "complaint"),
    [
        (b"", "cannot be empty"),
        ("", "cannot be empty"),
        (b"k" * 1025, "1025 bytes is too long: the most is 1024; hash it first"),
        ("ä" * 513, "1026 bytes is too long"),
        (42, "bytes or str, not int"),
        (None, "bytes or str, not NoneType"),
    ],
)
def test_bad_keys(cache: Cache, key, complaint):
    for use in (
        cache.get,
        cache.get_with_deps,
        cache.delete,
        lambda key: cache.set(key, b""),
        lambda key: cache.fill(key, b"", cache.stamp()),
    ):
        with pytest.raises(InvalidKeyError, match=complaint):
            use(key)


@pytest.mark.parametrize("tag", ["", ":", "a:", ":a", "a::b", "a\0b", "\0", 42, None])
def test_bad_tags(cache: Cache, tag):
    for tags in ([tag], ["good", tag], [tag, "good"]):
        for use in (
            lambda tags: cache.invalidate(*tags),
            lambda tags: cache.set("key", b"", tags=tags),
            lambda tags: cache.fill("key", b"", cache.stamp(), tags=iter(tags)),
        ):
            with pytest.raises(TagError, match="tag"):
                use(tags)


def test_a_string_is_not_a_list_of_tags(cache: Cache):
    with pytest.raises(TagError, match=r"write \['Product'\]"):
        cache.set("key", b"", tags="Product")


@pytest.mark.parametrize("stamp", [-1, 2**48 - 1, 2**64, 10**30, 1.5, None, "1", b"1"])
def test_a_fill_without_a_stamp_is_not_a_set(cache: Cache, stamp):
    """Stored as a set, an old value would count as new."""
    with pytest.raises(ValueError, match="not a stamp: call stamp"):
        cache.fill("key", b"old", stamp)
    assert cache.get("key") is None


def test_a_fill_with_the_stamp_of_a_retired_segment_is_not_a_set(cache: Cache):
    """Which is 0: the segment was replaced before the computation began."""
    assert cache.fill("key", b"old", 0) is Outcome.RETIRED
    assert cache.get("key") is None


@pytest.mark.parametrize("deps", [b"1234567", b"123456789"])
def test_half_a_dependency_is_refused(cache: Cache, deps):
    """It would be dropped, and the entry outlive what it was made from."""
    with pytest.raises(ValueError, match="hashes of 8 bytes each"):
        cache.fill("key", b"value", cache.stamp(), deps=deps)
    assert cache.get("key") is None


def test_values_of_all_sizes(segment_name):
    cache = Cache(Segment(segment_name, 16 << 20))
    most = cache.segment.max_record - 64  # what else is in a record
    for size in (0, 1, 7, 8, 4096, 128 * 1024 - 100, 128 * 1024, 500_000, most):
        value = os.urandom(size)
        assert cache.set("key", value) is Outcome.STORED
        assert cache.get("key") == value
        found = cache.get_with_deps("key")
        assert found is not None
        assert found.value == value
    assert cache.set("key", bytes(cache.segment.max_record)) is Outcome.TOO_LARGE
    assert cache.get("key") is None


def test_threads_share_a_cache(cache: Cache):
    """Each thread gets its own key's value, though one reader belongs to only one of them."""
    wrong: list[object] = []
    threads = 6

    def work(me: int) -> None:
        key, value = f"key {me}", bytes([me]) * (50 + 30 * me)
        for i in range(3000):
            if i % 50 == 0:
                cache.set(key, value, tags=[f"t:{me}"])
            found = cache.get(key)
            if found is not None and found != value:
                wrong.append((me, found))
            if i % 200 == 199:
                cache.invalidate(f"t:{me}")
                if (found := cache.get(key)) is not None:
                    wrong.append((me, "stale"))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        running = [threading.Thread(target=work, args=(me,)) for me in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert wrong == []
    assert cache.stats()["hits"] > threads * 1000
    assert cache.segment.check().sound


@pytest.mark.parametrize(
    ("entry_size", "buckets"),
    [
        (0, 8192),  # one for each KiB
        (1000, 2048),  # two words for each of 8,388 entries, nearly
        (1400, 2048),  # 1,497 would do: more than 1.4 times 1,024
        (1600, 1024),
        (64, 32768),
        (1, 32768),  # an index may not be larger than that
        (1 << 20, 64),
    ],
)
def test_the_index_is_sized_by_what_an_entry_takes(segment_name, entry_size, buckets):
    cache = Cache(Segment(segment_name, 8 << 20, entry_size=entry_size))
    assert cache.segment.entry_size == (max(entry_size, 64) if entry_size else 0)
    assert shape_of(cache).buckets == buckets
    for number in range(50):
        cache.set(str(number), bytes(number))
    assert all(cache.get(str(number)) == bytes(number) for number in range(50))
    assert Segment(segment_name, 8 << 20, entry_size=5000).entry_size == cache.segment.entry_size
    assert cache.segment.check().sound
    resize(segment_name, 1 << 20, entry_size=2 * entry_size)
    assert Segment(segment_name).entry_size == (max(2 * entry_size, 64) if entry_size else 0)


def test_an_index_for_longer_entries_leaves_more_room_for_them(segment_name):
    found = []
    for entry_size in (0, 1050):
        segment = Segment(f"{segment_name}-{entry_size}", 4 << 20, entry_size=entry_size)
        cache = Cache(segment)
        for number in range(8000):
            cache.set(b"%07d" % number, bytes(1024))
        found.append(segment.check().entries)
        unlink(segment.name)
    assert found[1] > 1.02 * found[0]
