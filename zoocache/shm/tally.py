"""Who reads through a segment, what becomes of it, and how long it takes: counted for the host."""

from __future__ import annotations

from typing import NamedTuple

from zoocache.shm._core import ffi, lib
from zoocache.shm.cache import Cache

_AT_ONCE = 64
_BUCKETS: int = lib.ZOO_SPAN_BUCKETS
_COUNTS: int = lib.ZOO_SITE_COUNTS
LIMITS: tuple[float, ...] = (
    *(lib.zoo_span_limit(i) / 1e9 for i in range(_BUCKETS - 1)),
    float("inf"),
)
"""Spans of bucket i took less than so many seconds; two for each power of two."""


class Counts(NamedTuple):
    """Of one site, a model or a function, since the segment was made."""

    hits: int = 0
    misses: int = 0
    stored: int = 0
    refused: int = 0
    """Fills that were not stored."""
    bypassed: int = 0
    """Reads that went around the cache."""
    size: int = 0
    """Of all values that were stored."""
    ns: int = 0
    """What its misses cost, in nanoseconds."""


class Spans(NamedTuple):
    """How often something took how long."""

    counts: tuple[int, ...]
    """By bucket: see LIMITS."""
    seconds: float
    """Of all together."""

    @property
    def total(self) -> int:
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """Seconds in which so large a share was done: its bucket's limit; None of nothing."""
        wanted, so_far = share * self.total, 0
        for n, limit in zip(self.counts, LIMITS, strict=True):
            so_far += n
            if n and so_far >= wanted:
                return limit
        return None


def number_of(cache: Cache, text: str) -> int:
    """The number of the site with that text in this segment; 0 if there is no place for it."""
    encoded = text.encode("utf-8", "replace")
    return int(lib.zoo_site(cache.segment.handle, encoded, len(encoded)))


def add(cache: Cache, number: int, counts: Counts) -> None:
    """Adds to what is counted of a site."""
    lib.zoo_site_add(cache.segment.handle, number, ffi.new("uint64_t[]", [*counts, 0]))


def sites(cache: Cache) -> dict[str, Counts]:
    """What was counted, by the sites' texts; "" are those for which there was no place."""
    found: dict[str, Counts] = {}
    cursor, buffer = ffi.new("uint64_t *"), ffi.new("zoo_site_counts[]", _AT_ONCE)
    while n := lib.zoo_sites(cache.segment.handle, cursor, buffer, _AT_ONCE):
        for one in buffer[0:n]:
            text = bytes(ffi.buffer(one.text, one.text_len)).decode("utf-8", "replace")
            found[text] = Counts(*one.count[0 : len(Counts._fields)])
    return found


def note_fill(cache: Cache, seconds: float) -> None:
    """Counts what a miss cost."""
    lib.zoo_span_note(cache.segment.handle, lib.ZOO_SPAN_FILL, int(seconds * 1e9))


def gets(cache: Cache) -> Spans:
    """How long hits take inside the core: one in some 48 is measured."""
    return _spans(cache, lib.ZOO_SPAN_GET)


def fills(cache: Cache) -> Spans:
    """How long misses took, until what was computed was stored: all of them."""
    return _spans(cache, lib.ZOO_SPAN_FILL)


def _spans(cache: Cache, kind: int) -> Spans:
    counts = ffi.new("uint64_t[]", _BUCKETS)
    ns = lib.zoo_spans(cache.segment.handle, kind, counts)
    return Spans(tuple(map(int, counts)), int(ns) / 1e9)
