"""The host's cache for OpenTelemetry: `pip install "zoocache[otel]"`.

    from zoocache import otel

    otel.instrument()

Metrics are observable: they are read when they are exported. Each is the whole
host's, whichever process exports it: instrument one process, or aggregate by
the largest. Spans are this process's: one for each miss and each bypass, which
take time, and an event on the current span for each hit.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from opentelemetry import metrics as otel_metrics
from opentelemetry import trace
from opentelemetry.metrics import MeterProvider, Observation
from opentelemetry.trace import SpanKind, TracerProvider

from zoocache import metrics, notices
from zoocache.metrics import Metric, Values
from zoocache.notices import Read
from zoocache.shm import Cache

_NAME = "zoocache"
_UNITS = {"bytes": "By", "seconds": "s", "": "1"}

_tracer: trace.Tracer | None = None
_metered = False


def instrument(
    *,
    meter_provider: MeterProvider | None = None,
    tracer_provider: TracerProvider | None = None,
    metrics: bool = True,
    spans: bool = True,
) -> None:
    """Gives metrics, and spans of this process's reads, from now on; the global providers' if
    none are given. With spans, each cached read goes through the code that tells of it."""
    global _tracer, _metered
    if metrics and not _metered:
        _metered = True
        _observe(meter_provider or otel_metrics.get_meter_provider())
    if spans:
        _tracer = (tracer_provider or trace.get_tracer_provider()).get_tracer(_NAME)
        notices.listen_to_reads(_tell)


def uninstrument() -> None:
    """Gives no more spans. What is observed stays: OpenTelemetry has no way to take it back."""
    global _tracer
    notices.ignore_reads(_tell)
    _tracer = None


# Of histograms, which nobody can observe, how many there were and how long they took together.
_SUMS = tuple(
    Metric(f"{what}_{name}", help, unit=unit)
    for what, told in (("get", "gets that hit and were measured"), ("miss", "misses"))
    for name, unit, help in (
        ("measured", "", f"How many {told} there were."),
        ("duration", "seconds", f"Time that {told} took."),
    )
)


class _Latest:
    """What was measured a moment ago: an export asks for each metric by itself."""

    SECONDS = 0.5

    def __init__(self) -> None:
        self._until = 0.0
        self._segment = ""
        self._values: dict[str, Values] = {}

    def of(self, name: str) -> Iterator[Observation]:
        """The metric's values; none if there is no segment."""
        if time.monotonic() >= self._until:
            cache = metrics.cache_of()
            self._values = {} if cache is None else {**metrics.values(cache), **_sums(cache)}
            self._segment = "" if cache is None else cache.segment.label
            self._until = time.monotonic() + self.SECONDS
        for labels, value in self._values.get(name, {}).items():
            yield Observation(value, {"segment": self._segment, **dict(labels)})


def _sums(cache: Cache) -> dict[str, Values]:
    found: dict[str, Values] = {}
    for one in metrics.distributions(cache):
        what = one.name.removesuffix("_seconds")
        found[f"{what}_measured"] = {(): one.spans.total}
        found[f"{what}_duration"] = {(): one.spans.seconds}
    return found


def _observe(provider: MeterProvider) -> None:
    meter, latest = provider.get_meter(_NAME), _Latest()
    for one in (*metrics.METRICS, *_SUMS):
        counts = one.kind == metrics.COUNTER
        create: Any = meter.create_observable_counter if counts else meter.create_observable_gauge
        create(
            f"zoocache.{one.name}",
            callbacks=[lambda options, name=one.name: latest.of(name)],
            unit=_UNITS[one.unit],
            description=one.help,
        )


def _tell(read: Read) -> None:
    if _tracer is None:
        return
    attributes: dict[str, str | bool | int | float] = {
        "zoocache.kind": read.kind,
        "zoocache.site": read.site.name,
        "zoocache.place": read.site.place,
        "zoocache.key": read.key.hex(),
    }
    if read.kind == notices.HIT:
        span = trace.get_current_span()
        if span.is_recording():
            span.add_event("zoocache hit", {**attributes, "zoocache.seconds": read.seconds})
        return
    if read.reason:
        attributes["zoocache.reason"] = read.reason
    if read.kind == notices.MISS:
        attributes |= {"zoocache.stored": read.stored, "zoocache.bytes": read.size}
    end = time.time_ns()
    span = _tracer.start_span(
        f"zoocache {read.kind} {read.site.name}",
        kind=SpanKind.INTERNAL,
        attributes=attributes,
        start_time=end - int(read.seconds * 1e9),
    )
    span.end(end)
