"""Watches a segment: rates, what is asked for most, what is dropped most, what comes and goes.

Counts nothing and changes nothing in it. `poll` often, twenty times a second: the
more often, the more samples of keys it has. `look` when somebody wants to see.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import NamedTuple

from zoocache.shm import Cache
from zoocache.shm.events import Event, events
from zoocache.shm.look import Asked, Census, Shape, census, shape_of
from zoocache.telling import Dropped, Names, dropped

WINDOW = 60.0
"""Seconds: what is hot is so in these."""

_MOST_BUCKETS = 16384  # of the index, counted at each look: some 20 ms
_MOST_EVENTS = 400  # of which the newest invalidations are told
_MOST_SAMPLES = 100_000
CAUSES = ("absent", "stale", "expired", "lapped", "corrupt", "pending")
"""Of misses."""


class HotKey(NamedTuple):
    """A key that is asked for often."""

    key: bytes | None
    """None: all those that are not in the cache."""
    share: float
    """Of all gets in the window, as far as samples tell."""
    samples: int


class HotTag(NamedTuple):
    """A tag that is invalidated often."""

    name: str
    times: int
    """In the window, as far back as the ring of events goes."""


class View(NamedTuple):
    """What there was to be seen at one moment."""

    stats: dict[str, int]
    """Counters since the segment was made."""
    rates: dict[str, float]
    """The same, per second since the view before; 0 in the first."""
    shape: Shape
    census: Census
    samples: int
    """Of keys, in the window."""
    keys: list[HotKey]
    tags: list[HotTag]
    dropped: list[Dropped]
    """The newest first."""


def hit_ratio(counters: dict[str, int] | dict[str, float]) -> float | None:
    """The share of gets that found something; None where there were none."""
    hits = counters["hits"] + counters["local"]  # in the segment, and of processes' own copies
    gets = hits + counters["misses"]
    return hits / gets if gets else None


class Monitor:
    """One watched segment."""

    def __init__(self, cache: Cache, names: Names, *, most: int = 10) -> None:
        self.cache = cache
        self.names = names
        self._most = most
        self._asked = Asked(cache)
        self._samples: deque[tuple[float, int]] = deque(maxlen=_MOST_SAMPLES)
        self._stats: dict[str, int] | None = None
        self._then = 0.0
        self._looks = 0

    def poll(self) -> None:
        """Takes the samples of keys that are new."""
        now = time.monotonic()
        self._samples.extend((now, hashed) for hashed in self._asked.new())
        while self._samples and self._samples[0][0] < now - WINDOW:
            self._samples.popleft()

    def look(self) -> View:
        """What there is to be seen now."""
        self.poll()
        stats, now = self.cache.stats(), time.monotonic()
        before, seconds = self._stats or stats, now - self._then
        self._stats, self._then, self._looks = stats, now, self._looks + 1
        ring = events(self.cache)
        self.names.learn_events(ring)
        return View(
            stats,
            {name: (n - before[name]) / seconds for name, n in stats.items()},
            shape_of(self.cache),
            census(self.cache, _MOST_BUCKETS, self._looks),
            len(self._samples),
            self._hot_keys(),
            self._hot_tags(ring),
            dropped(ring[-_MOST_EVENTS:], self.names),
        )

    def _hot_keys(self) -> list[HotKey]:
        counted = Counter(hashed for _, hashed in self._samples)
        total, absent = len(self._samples), 0
        found: list[HotKey] = []
        for hashed, n in counted.most_common(4 * self._most):
            key = self._asked.key_of(hashed)
            if key is None:
                absent += n
            elif len(found) < self._most:
                found.append(HotKey(key, n / total, n))
        if absent:
            found.append(HotKey(None, absent / total, absent))
        return sorted(found, key=lambda hot: -hot.samples)[: self._most]

    def _hot_tags(self, ring: list[Event]) -> list[HotTag]:
        since = time.time() - WINDOW
        counted = Counter(event.tag for event in ring if event.when >= since)
        return [HotTag(self.names.of(tag), n) for tag, n in counted.most_common(self._most)]
