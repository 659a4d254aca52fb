"""What invalidating one tag takes, with a thousand and with a million entries in the segment."""

from __future__ import annotations

from collections.abc import Callable

from servers import Place
from timing import Sampler, interleave, loop_over

from zoocache.shm import Cache, Segment

COUNTS = {"1 k": 1_000, "1 M": 1_000_000}
TAGGED = 1_000  # entries have a tag each, in turn
HIT = "a hit, 100 B"


def measure(place: Place, rounds: int, budget: float) -> dict[str, float]:
    """Medians in ns: one for each number of entries, and a hit in the same rounds."""
    contenders: dict[str, Callable[[], float]] = {}
    tags = [f"Product:{number}" for number in range(TAGGED)]
    for label, count in COUNTS.items():
        # Segments of one size: how much there is to map must not tell them apart.
        cache = Cache(Segment(f"{place.segment}-entries-{count}", 768 << 20))
        key_of = b"shop.Product:%07d".__mod__
        for tag in tags:  # the page faults of the tags' places
            cache.invalidate(tag)
        for number in range(count):
            cache.set(key_of(number), b"v" * 100, tags=(tags[number % TAGGED],))
        there = sum(cache.get(key_of(number)) is not None for number in range(0, count, 97))
        if there < 0.95 * len(range(0, count, 97)):
            raise RuntimeError(f"only {there} of every 97th of {count} entries are there")
        contenders[f"invalidate, {label} entries"] = Sampler(
            loop_over(cache.invalidate), tags, budget
        )
        if not contenders.get(HIT):
            keys = [b"hit.Product:%04d" % number for number in range(TAGGED)]
            for key in keys:
                cache.set(key, b"v" * 100)
            contenders[HIT] = Sampler(loop_over(cache.get), keys, budget)
    return interleave(contenders, rounds)
