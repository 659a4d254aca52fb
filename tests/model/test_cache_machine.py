"""The cache against an exact model: a dict, a clock for each tag, and injected time.

The segment is large enough for all that a run stores, so that nothing is ever
evicted: each hit, each miss and each outcome must be exactly the model's.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from zoocache.shm import Cache, Outcome, Segment, unlink

KEYS = ["a", "b", b"\x00\xff", "käse", "k" * 1024]
TAGS = ["Product", "Product:1", "Product:2", "Product:category:5", "Category:5", "x:y:z", "x"]

keys = st.sampled_from(KEYS)
values = st.binary(max_size=200)
tag_lists = st.lists(st.sampled_from(TAGS), max_size=4)
# Seconds. Shifts are whole hundreds and no ttl ends near one, so that the few
# real seconds of a run cannot change an answer.
ttls = st.sampled_from([None, None, 50, 150, 250.5, 1050])


def prefixes(tag: str) -> set[str]:
    parts = tag.split(":")
    return {":".join(parts[: i + 1]) for i in range(len(parts))}


def key_tag(key: object) -> tuple[str, object]:
    """The implicit tag of a key, which delete() bumps."""
    return ("key", key)


@dataclass
class Entry:
    value: bytes
    stamp: int
    deps: set[object]
    expiry: float | None
    explicit: bool  # set, not filled

    def is_newer_than(self, fill_stamp: int, now: float) -> bool:
        """A set does not tick the clock: it wins a tie, unless it has expired."""
        expired = self.expiry is not None and self.expiry <= now
        return self.stamp > fill_stamp or (
            self.stamp == fill_stamp and self.explicit and not expired
        )


class CacheMachine(RuleBasedStateMachine):
    name = ""  # set by the test

    stamps = Bundle("stamps")
    found = Bundle("found")

    @initialize()
    def start(self) -> None:
        unlink(self.name)
        self.segment = Segment(self.name, 4 << 20)
        self.cache = Cache(self.segment)
        self.entries: dict[object, Entry] = {}
        self.clocks: dict[object, int] = {}
        self.root = 0
        self.now = 0.0
        self.counts = dict.fromkeys(["hits", "absent", "stale", "expired"], 0)

    def clock_of(self, deps: set[object]) -> int:
        return max([self.root, *(self.clocks.get(dep, 0) for dep in deps)])

    def judge(self, key: object) -> str:
        entry = self.entries.get(key)
        if entry is None:
            return "absent"
        if entry.stamp < self.clock_of(entry.deps | {key_tag(key)}):
            return "stale"
        if entry.expiry is not None and entry.expiry <= self.now:
            return "expired"
        return "hits"

    def look(self, key: object) -> Entry | None:
        """The model's get."""
        why = self.judge(key)
        self.counts[why] += 1
        return self.entries[key] if why == "hits" else None

    @rule(key=keys, value=values, tags=tag_lists, ttl=ttls)
    def set(self, key, value, tags, ttl):
        stamp = self.cache.stamp()
        assert self.cache.set(key, value, tags=tags, ttl=ttl) is Outcome.STORED
        self.store(key, value, stamp, set().union(*map(prefixes, tags)), ttl, explicit=True)

    def store(self, key, value, stamp, deps, ttl, *, explicit):
        expiry = None if ttl is None else self.now + ttl
        self.entries[key] = Entry(value, stamp, deps, expiry, explicit)

    @rule(key=keys)
    def set_too_large(self, key):
        value = bytes(self.segment.max_record)
        assert self.cache.set(key, value) is Outcome.TOO_LARGE
        self.entries.pop(key, None)
        self.clocks[key_tag(key)] = self.cache.stamp()

    @rule(target=stamps)
    def begin_fill(self):
        return self.cache.stamp()

    @rule(key=keys, value=values, stamp=stamps, tags=tag_lists, ttl=ttls)
    def fill(self, key, value, stamp, tags, ttl):
        self.fill_with(key, value, stamp, tags, ttl, b"", set())

    @rule(key=keys, value=values, found=consumes(found), tags=tag_lists)
    def fill_from_another(self, key, value, found, tags):
        stamp, hashes, deps = found
        self.fill_with(key, value, stamp, tags, None, hashes, deps)

    def fill_with(self, key, value, stamp, tags, ttl, hashes, inherited):
        deps = inherited.union(*map(prefixes, tags))
        there = self.entries.get(key)
        if stamp < self.clock_of(deps | {key_tag(key)}):
            expected = Outcome.BORN_DEAD
        elif there is not None and there.is_newer_than(stamp, self.now):
            expected = Outcome.OLDER
        else:
            expected = Outcome.STORED
        outcome = self.cache.fill(key, value, stamp, tags=tags, ttl=ttl, deps=hashes)
        assert outcome is expected
        if outcome is Outcome.STORED:
            self.store(key, value, stamp, deps, ttl, explicit=False)

    @rule(key=keys)
    def get(self, key):
        entry = self.look(key)
        assert self.cache.get(key) == (entry and entry.value)

    @rule(target=found, key=keys)
    def get_with_deps(self, key):
        stamp = self.cache.stamp()
        entry = self.look(key)
        found = self.cache.get_with_deps(key)
        if entry is None:
            assert found is None
            return multiple()
        assert found is not None
        assert found.value == entry.value
        assert len(found.deps) == 8 * len(entry.deps)
        return (stamp, found.deps, entry.deps)

    @rule(key=keys)
    def delete(self, key):
        assert self.cache.delete(key) is (self.judge(key) == "hits")
        self.entries.pop(key, None)
        self.clocks[key_tag(key)] = self.cache.stamp()

    @rule(tags=st.lists(st.sampled_from([*TAGS, "unrelated"]), min_size=1, max_size=3))
    def invalidate(self, tags):
        before = self.cache.stamp()
        self.cache.invalidate(*tags)
        assert self.cache.stamp() > before
        for tag in tags:
            self.clocks[tag] = self.cache.stamp()

    @rule()
    def clear(self):
        self.cache.clear()
        self.root = self.cache.stamp()

    @rule(hundreds=st.integers(1, 5))
    def let_time_pass(self, hundreds):
        self.now += 100 * hundreds
        self.segment.shift_time(self.now)

    @rule()
    def attach_again(self):
        """A second handle, as another process has one."""
        self.segment = Segment(self.name)
        self.segment.shift_time(self.now)
        self.cache = Cache(self.segment)

    @invariant()
    def counted(self):
        if not hasattr(self, "cache"):
            return
        stats = self.cache.stats()
        assert {why: stats[why] for why in self.counts} == self.counts
        assert stats["lapped"] == stats["evictions"] == stats["corrupt"] == 0

    def teardown(self):
        if not hasattr(self, "segment"):
            return
        report = self.segment.check()
        assert report.sound
        assert report.entries == len(self.entries)
        unlink(self.name)


def test_the_cache_is_its_model(segment_name):
    CacheMachine.name = segment_name
    run_state_machine_as_test(
        CacheMachine,
        settings=settings(max_examples=150, stateful_step_count=60, deadline=None, print_blob=True),
    )
