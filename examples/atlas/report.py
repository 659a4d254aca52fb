"""The report of the demo: what the clients measured, and whether the run may count as good."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from judge import Judge
from load import Client, Sample

SHOWN = 20  # faults and errors printed in full


@dataclass(frozen=True)
class Run:
    """Everything that one timed run left behind."""

    seconds: float
    expected_workers: list[int]
    clients: list[Client]
    judge: Judge
    counters: Counter[str]  # of the cache, after minus before

    @property
    def samples(self) -> list[Sample]:
        return [sample for client in self.clients for sample in client.samples]

    @property
    def requests(self) -> Counter[int]:
        """Responses by process id; a worker that sent none is there with 0."""
        counts = Counter(dict.fromkeys(self.expected_workers, 0))
        for client in self.clients:
            counts.update(client.workers)
        return counts

    @property
    def errors(self) -> list[str]:
        return [error for client in self.clients for error in client.errors]

    @property
    def writes(self) -> int:
        return sum(client.writes for client in self.clients)

    def failures(self) -> list[str]:
        """Return one sentence for each reason why the run must not pass."""
        idle = [worker for worker in self.expected_workers if not self.requests[worker]]
        checks = [
            (self.judge.stale, f"{len(self.judge.stale)} reads showed old data."),
            (self.judge.wrong, f"{len(self.judge.wrong)} reads showed data that nobody wrote."),
            (self.errors, f"{len(self.errors)} requests failed."),
            (idle, f"Workers without a request: {', '.join(map(str, idle))}."),
            (not self.writes, "Nothing was written, so nothing could have been stale."),
            (not self.judge.judged, "No response showed a population, so none was judged."),
            (self.counters["hits"] <= 0, "The cache had no hits."),
        ]
        return [sentence for failed, sentence in checks if failed]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed."""
    return sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]


def format_report(run: Run) -> str:
    return "\n".join([*_complaints(run), *_totals(run), "", *_latencies(run.samples)])


def _complaints(run: Run) -> list[str]:
    lines = []
    for found in (run.judge.stale, run.judge.wrong, run.errors):
        lines += [f"  {one}" for one in found[:SHOWN]]
        if len(found) > SHOWN:
            lines.append(f"  ... and {len(found) - SHOWN} more like these")
    return ["What went wrong", *lines, ""] if lines else []


def _totals(run: Run) -> list[str]:
    total = sum(run.requests.values())
    hits, misses = run.counters["hits"], run.counters["misses"]
    ratio = f"{hits / (hits + misses):.1%}" if hits + misses else "none"
    rows = [
        *((f"requests of worker {pid}", f"{run.requests[pid]:,}") for pid in sorted(run.requests)),
        ("requests", f"{total:,}"),
        ("requests per second", f"{total / run.seconds:,.0f}"),
        ("cache hits, whole host", f"{hits:,}"),
        ("cache misses, whole host", f"{misses:,}"),
        ("hit ratio", ratio),
        ("reads", f"{len(run.samples):,}"),
        ("writes", f"{run.writes:,}"),
        ("populations and sums judged", f"{run.judge.judged:,}"),
        ("invalidations seen by other workers", f"{run.judge.seen_elsewhere:,}"),
        ("errors", f"{len(run.errors):,}"),
        ("wrong reads", f"{len(run.judge.wrong):,}"),
        ("stale reads", f"{len(run.judge.stale):,}"),
    ]
    return ["Result", *(f"  {name + ':':<37}{value:>10}" for name, value in rows)]


def _latencies(samples: list[Sample]) -> list[str]:
    times: defaultdict[tuple[str, bool], list[float]] = defaultdict(list)
    for kind, cached, seconds in samples:
        times[kind, cached].append(seconds * 1000)
        times["all pages", cached].append(seconds * 1000)
    kinds = [*sorted({sample.kind for sample in samples}), "all pages"]
    lines = [
        "Milliseconds from request to last byte. Cached: hits and misses together; uncached:",
        "the same pages from the database, in the same seconds.",
        f"  {'':<16}{'cached':>26}   {'uncached':>26}",
        f"  {'':<16}{'reads':>8}{'median':>9}{'p99':>9}   {'reads':>8}{'median':>9}{'p99':>9}",
    ]
    for kind in kinds:
        columns = [_column(times[kind, cached]) for cached in (True, False)]
        lines.append(f"  {kind:<16}{'   '.join(columns)}")
    return lines


def _column(values: list[float]) -> str:
    if not values:
        return f"{0:>8}{'-':>9}{'-':>9}"
    return f"{len(values):>8,}{percentile(values, 0.5):>9.2f}{percentile(values, 0.99):>9.2f}"
