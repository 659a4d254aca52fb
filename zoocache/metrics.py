"""The figures of a segment as metrics, under names that last: for Prometheus and OpenTelemetry.

All of them are the host's, since the segment was made: it does not matter which
process asks. docs/operations.md explains those that are not plain.
"""

from __future__ import annotations

from typing import NamedTuple

from zoocache import config, local, sites, store
from zoocache.exceptions import ZooCacheError
from zoocache.shm import Cache, Segment, tally
from zoocache.shm.look import LOGS, census, shape_of
from zoocache.shm.tally import Counts, Spans
from zoocache.sites import Label

COUNTER, GAUGE = "counter", "gauge"
_MOST_BUCKETS = 8_192  # of the index, counted at each look: some 10 ms

Labels = tuple[tuple[str, str], ...]
Values = dict[Labels, float]
"""By labels; () where a metric has none."""


class Metric(NamedTuple):
    """What is measured."""

    name: str
    """As Prometheus has it, without the `zoocache_` in front and the `_total` behind."""
    help: str
    kind: str = COUNTER
    """COUNTER or GAUGE."""
    unit: str = ""
    """"bytes", "seconds" or ""."""


class Distribution(NamedTuple):
    """How long something took: a histogram."""

    name: str
    help: str
    spans: Spans


METRICS = (
    Metric("hits", "Hits, in the segment and of copies that processes keep."),
    Metric("misses", "Misses, by cause."),
    Metric("stores", "Values that were to be stored, by outcome."),
    Metric("evictions", "Entries whose place was taken."),
    Metric("promotions", "Entries that were kept because of a hit."),
    Metric("deletes", "Keys that were deleted."),
    Metric("invalidations", "Invalidations by hand and by commits."),
    Metric("invalidated_tags", "Tags that they named."),
    Metric("clears", "Invalidations of everything."),
    Metric("commits", "Commits that were announced, found no lane, or died and were reaped."),
    Metric("flights", "Computations that others could wait for, waits, and late leaders."),
    Metric("shadow_compared", "Hits that were compared with the database."),
    Metric("site_reads", "Reads by model or function; hits are sampled."),
    Metric("site_refused", "Their misses whose value was not stored."),
    Metric("site_stored_bytes", "Bytes of values that were stored for them.", unit="bytes"),
    Metric("site_miss_seconds", "Time that their misses took.", unit="seconds"),
    Metric("log_written_bytes", "Bytes ever written to a log.", unit="bytes"),
    Metric("segment_bytes", "Size of the segment.", GAUGE, "bytes"),
    Metric("age_seconds", "Since it was made or cleared.", GAUGE, "seconds"),
    Metric("entries", "Entries by state; of a large index, extrapolated.", GAUGE),
    Metric("entry_bytes", "Their bytes.", GAUGE, "bytes"),
    Metric("index_ratio", "How full the index is, from 0 to 1.", GAUGE),
    Metric("commits_under_way", "Announced, or in quarantine.", GAUGE),
)


def cache_of(name: str | None = None) -> Cache | None:
    """The cache of this process, or that of another segment; None where there is none."""
    try:
        if name is not None:
            return Cache(Segment(config.segment_name(name)))
        found = store.writer()
        local.count_hits()
        sites.flush(found)
        return found
    except ZooCacheError:
        return None


def values(cache: Cache) -> dict[str, Values]:
    """What all METRICS are now, by name."""
    return {**_counted(cache.stats()), **_of_sites(sites.counted(cache)), **_there(cache)}


def distributions(cache: Cache) -> tuple[Distribution, ...]:
    """The histograms."""
    return (
        Distribution("get_seconds", "How long hits took in the core; a sample.", tally.gets(cache)),
        Distribution(
            "miss_seconds", "How long misses took, with what computed them.", tally.fills(cache)
        ),
    )


def _by(label: str, **given: float) -> Values:
    return {((label, name),): value for name, value in given.items()}


def _counted(n: dict[str, int]) -> dict[str, Values]:
    causes = ("absent", "stale", "expired", "lapped", "corrupt", "pending")
    return {
        "hits": _by("source", segment=n["hits"], copies=n["local"]),
        "misses": _by("cause", **{cause: n[cause] for cause in causes}),
        "stores": _by(
            "outcome",
            stored=n["sets"],
            overtaken=n["born_dead"],
            older=n["older"],
            too_large=n["too_large"],
            crowded=n["crowded"],
        ),
        "evictions": {(): n["evictions"]},
        "promotions": {(): n["promotions"]},
        "deletes": {(): n["deletes"]},
        "invalidations": {(): n["invalidations"]},
        "invalidated_tags": {(): n["tags"]},
        "clears": {(): n["clears"]},
        "commits": _by("kind", announced=n["announced"], no_lane=n["no_lane"], reaped=n["reaped"]),
        "flights": _by("kind", led=n["led"], waited=n["waited"], overtaken=n["overtaken"]),
        "shadow_compared": _by(
            "result", same=n["compared"] - n["differed"], different=n["differed"]
        ),
    }


def _of_sites(counted: dict[Label, Counts]) -> dict[str, Values]:
    """By model and function. Places are left out: they would make too many series."""
    by_name: dict[Labels, Counts] = {}
    for label, counts in counted.items():
        named: Labels = (("kind", label.kind or "other"), ("name", label.name or "other"))
        before = by_name.get(named, Counts())
        by_name[named] = Counts(*map(sum, zip(before, counts, strict=True)))
    reads: Values = {}
    for name, counts in by_name.items():
        for result in ("hits", "misses", "bypassed"):
            labels: Labels = (*name, ("result", result))
            reads[labels] = getattr(counts, result)
    return {
        "site_reads": reads,
        "site_refused": {name: counts.refused for name, counts in by_name.items()},
        "site_stored_bytes": {name: counts.size for name, counts in by_name.items()},
        "site_miss_seconds": {name: counts.ns / 1e9 for name, counts in by_name.items()},
    }


def _there(cache: Cache) -> dict[str, Values]:
    shape, counted = shape_of(cache), census(cache, _MOST_BUCKETS)
    words = counted.entries + counted.lost + counted.tentative
    logs = zip(LOGS, (shape.probation, shape.main), strict=True)
    return {
        "log_written_bytes": _by("log", **{name: log.written for name, log in logs}),
        "segment_bytes": {(): cache.segment.size},
        "age_seconds": {(): shape.age},
        "entries": _by(
            "state",
            fresh=counted.fresh,
            stale=counted.stale,
            expired=counted.expired,
            pending=counted.pending,
        ),
        "entry_bytes": _by("state", fresh=counted.fresh_bytes, other=counted.other_bytes),
        "index_ratio": {(): words / (8 * shape.buckets)},
        "commits_under_way": {(): shape.active_lanes},
    }
