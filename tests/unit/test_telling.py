"""Keys, tags and events in words."""

from __future__ import annotations

import os
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoocache import store, telling
from zoocache.exceptions import InvalidKeyError, TagError
from zoocache.shm import Cache
from zoocache.shm.events import events, hash_of
from zoocache.shm.explain import State
from zoocache.shm.intent import End, reap
from zoocache.telling import Names, dropped, label_of, read_key, why_key, why_tag, written_key

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


@given(
    st.binary(min_size=1, max_size=40)
    | st.text(min_size=1).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
def test_a_written_key_is_read_back(key: bytes) -> None:
    written = written_key(key)
    assert read_key(written) == key
    assert written.isprintable()


def test_keys_that_are_not_text() -> None:
    assert written_key(b"0x41") == "0x30783431"  # or it would be read as A
    assert label_of(b"q" + b"\xab" * 20) == "query abababab"
    assert label_of(b"f" + b"\xab" * 20) == "result abababab"
    assert label_of(b"user:42") == "user:42"
    with pytest.raises(InvalidKeyError, match="hexadecimal"):
        read_key("0xabc")


def test_names_of_tags(cache: Cache) -> None:
    names = Names(cache, ["@shop:any"], told=lambda tag: f"<{tag}>")
    long = "tag:" + "x" * 40
    cache.invalidate("user:42", long)
    cache.delete("some key")
    cache.clear()
    names.learn_events(events(cache))
    assert [names.of(event.tag) for event in events(cache)] == [
        "<user:42>", long[:24] + "…", "key some key", "everything",
    ]  # fmt: skip
    assert names.of(b"\x07" * 8) == "tag 0707070707070707"
    assert not names.knows(b"\x07" * 8)


def test_what_a_terminal_would_obey_is_not_printed(default_cache: Cache) -> None:
    names = Names(default_cache)
    store.invalidate("a\x1b[2J:b")
    names.learn_events(events(default_cache))
    (one,) = dropped(events(default_cache), names)
    assert one.what == "a?[2J:b"
    assert "\x1b" not in why_tag("a")
    assert "\x1b" not in why_key(default_cache, b"key", names)[1]


def test_names_from_events_do_not_grow_without_end(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "_MOST_TOLD", 100)
    names = Names(cache, ["known"])
    for number in range(1000):
        cache.invalidate(f"user:{number}")
        names.learn_events(events(cache)[-1:])
        assert len(names._from_events) <= 101
    assert names.of(hash_of(cache, "known")) == "known"
    assert names.of(hash_of(cache, "user:999")) == "user:999"


def test_tags_that_are_dropped_together_are_one(cache: Cache) -> None:
    names = Names(cache)
    cache.invalidate("a:1", "a:2")
    intent = cache.intent()
    intent.announce(["b", "c", "d"], "", 0)
    intent.settle(End.COMMITTED)
    ring = events(cache)
    names.learn_events(ring)
    commit, invalidation = dropped(ring, names)
    assert (commit.what, commit.cause, commit.pid) == ("b, c, d", "commit", os.getpid())
    assert invalidation.what == "a:1, a:2"
    assert abs(invalidation.when - time.time()) < 60


def test_what_the_reaper_drops_has_no_name(cache: Cache) -> None:
    """A lane has the hashes of its tags, and its owner, who knew their names, is dead."""
    names = Names(cache, ["b"])
    pid = os.fork()
    if pid == 0:
        try:
            cache.intent().announce(["b", "c", "d"], "", 0)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert reap(cache) == 1
    (one,) = dropped(events(cache), names)
    assert (one.what, one.cause) == ("b, 2 more", "reaper")


def test_why_a_key(cache: Cache) -> None:
    names = Names(cache, ["user:42"])
    assert why_key(cache, b"key", names)[1] == ("key: a miss: never stored, or evicted, or deleted")
    cache.set("key", b"value", ttl=100, tags=["user:42", "theme"])
    entry, told = why_key(cache, b"key", names)
    assert entry.state is State.FRESH
    assert told.splitlines()[:2] == ["key: a hit", "  5 bytes, depends on 3 tags"]
    assert "among them: user:42" in told
    cache.invalidate("user:42")
    entry, told = why_key(cache, b"key", names)
    assert entry.state is State.STALE
    assert re.search(rf"user:42: \d+\.\d s ago by process {os.getpid()} \(invalidate\)", told)


def test_why_of_no_tag(default_cache: Cache) -> None:
    with pytest.raises(TagError, match="is not a tag"):
        why_tag("a::b")
    store.invalidate("a:b")
    assert "1 of the last 1 invalidations" in why_tag("a:b")
    store.invalidate("a")
    store.invalidate("a:c")
    told = why_tag("a:b", lambda tag: f"<{tag}>")
    assert "2 of the last 3 invalidations" in told
    assert [line.split()[0] for line in told.splitlines()[1:]] == ["<a:b>:", "<a>:"]
