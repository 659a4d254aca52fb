"""A commit of unknown outcome stays announced, wherever its announcement was."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from zoocache import commits, store
from zoocache.commits import Announcement
from zoocache.exceptions import TagError, ZooCacheError
from zoocache.shm import Cache, resize
from zoocache.shm.intent import MOST_TAGS, End, quarantined, resolve

MOST_LANES = 64


def unknown() -> Announcement:
    announcement = Announcement(frozenset(["row"]), session="session 7", quarantine=60.0)
    announcement.make()
    return announcement


def is_in_quarantine() -> None:
    cache = store.cache()
    assert cache is not None
    (lane,) = quarantined(cache)
    assert lane.session == "session 7"
    cache.fill("row", b"old", cache.stamp(), tags=["row"])
    assert cache.get("row") is None
    assert cache.stats()["pending"] > 0
    assert resolve(cache, lane.ticket)
    assert cache.get("row") is None  # it was filled before that


def test_in_the_segment_where_it_was_made(default_cache: Cache) -> None:
    unknown().settle(End.UNKNOWN)
    is_in_quarantine()


def test_in_the_successor_of_a_segment_that_was_replaced_meanwhile(default_cache: Cache) -> None:
    """Nobody reads the old one's lanes any more, and the new one's window may end too early."""
    announcement = unknown()
    resize(default_cache.segment.name, 1 << 20, wait=0)
    announcement.settle(End.UNKNOWN)
    is_in_quarantine()


def test_where_no_lane_was_free_for_it(default_cache: Cache) -> None:
    """All miss for the length of a quarantine, but from the announcement on, not from its end."""
    others = [default_cache.intent() for _ in range(MOST_LANES)]
    for other in others:
        assert other.announce(["else"], "", 60.0)
    announcement = unknown()
    for other in others:
        assert other.settle(End.ROLLED_BACK)
    announcement.settle(End.UNKNOWN)
    is_in_quarantine()


def test_tags_and_times_of_every_kind(default_cache: Cache) -> None:
    """What cannot be announced is told at once, and nothing is announced of it."""
    for tags in [["\ud800"], {"a:b", "c"}, iter(["a"]), None]:
        intent = default_cache.intent()
        assert intent.announce(tags, "", 1e300)
        assert intent.settle(End.COMMITTED)
        assert not intent.settle(End.COMMITTED)
    for wrong in [
        ([1], "", 0),
        (5, "", 0),
        (["a"], b"", 0),
        (["a"], "", "1"),
        (["a"], "\ud800", 0),
    ]:
        intent = default_cache.intent()
        with pytest.raises((TypeError, UnicodeEncodeError)):
            intent.announce(*wrong)
        assert not intent.settle(End.COMMITTED)
    with pytest.raises(TagError):
        default_cache.intent().announce(["a::b"], "", 0)
    with pytest.raises(TypeError):
        default_cache.intent().announce(["a"], "")
    default_cache.fill("row", b"new", default_cache.stamp(), tags=["a:b"])
    assert default_cache.get("row") == b"new"


def test_one_is_in_the_list_before_it_is_made(default_cache: Cache) -> None:
    listed: list[Any] = []
    tags, session, quarantine = frozenset(["a:b"]), "session 7", 60.0
    given = [tags, session, quarantine]
    counts = [*map(sys.getrefcount, given)]
    assert default_cache.announce(listed, tags, session, quarantine)
    (intent,) = listed
    assert [intent.tags, intent.session, intent.quarantine] == given
    assert intent.tags is tags
    default_cache.fill("row", b"old", default_cache.stamp(), tags=["a:b"])
    assert default_cache.get("row") is None
    assert intent.settle(End.COMMITTED)
    with pytest.raises(TagError):
        default_cache.announce(listed, frozenset(["a::b"]), session, quarantine)
    assert not listed.pop().settle(End.COMMITTED)  # whoever finds it there invalidates its tags
    for wrong in [
        ((), tags, session, quarantine),
        (listed, 5, session, quarantine),
        (listed, tags, b"", quarantine),
        (listed, tags, session, "1"),
        (listed, tags, session),
    ]:
        with pytest.raises(TypeError):
            default_cache.announce(*wrong)  # type: ignore[arg-type]
    assert listed == [intent]
    listed.clear()
    del intent, wrong
    assert [*map(sys.getrefcount, given)] == counts


def is_served(tags: list[str] | None) -> bool:
    cache = store.cache()
    assert cache is not None
    cache.fill("row", b"old", cache.stamp(), tags=["row"] if tags is None else tags[:1])
    return cache.get("row") is not None


@pytest.mark.parametrize("end", [End.COMMITTED, End.UNKNOWN])
@pytest.mark.parametrize("tags", [["row"], None, [f"row:{n}" for n in range(MOST_TAGS + 1)]])
def test_a_commit_in_a_segment_that_was_replaced(
    default_cache: Cache, tags: list[str] | None, end: End
) -> None:
    """Before it is announced, and again before it is settled."""
    name, listed = default_cache.segment.name, []  # type: ignore[var-annotated]
    resize(name, 1 << 20, wait=0)
    commits.announce(listed, None if tags is None else frozenset(tags), "session 7", 60.0)
    assert not is_served(tags)
    resize(name, 2 << 20, wait=0)
    commits.settle(listed, end)
    cache = store.cache()
    assert cache is not None
    assert cache.get("row") is None
    assert bool(quarantined(cache)) == (end is End.UNKNOWN)
    commits.settle(listed, End.COMMITTED)  # again, after an exception


def test_one_that_could_not_be_made_is_told(
    default_cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    default_cache.fill("row", b"old", default_cache.stamp(), tags=["row"])

    def fail() -> Cache:
        raise ZooCacheError

    listed: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(store, "cache", fail)
        commits.announce(listed, frozenset(["row"]), "session 7", 60.0)
    commits.settle(listed, End.COMMITTED)
    assert default_cache.get("row") is None
