"""The host's cache for Prometheus: `pip install "zoocache[prometheus]"`.

    from prometheus_client import REGISTRY
    from zoocache.prometheus import ZooCacheCollector

    REGISTRY.register(ZooCacheCollector())

Every process sees the whole host, so one scrape of any worker is enough. With
gunicorn, register it with the registry that the metrics view makes, beside
prometheus_client's own MultiProcessCollector: nothing is written to its folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from zoocache import config, metrics
from zoocache.exceptions import ConfigError
from zoocache.metrics import Distribution, Values
from zoocache.shm import Cache
from zoocache.shm.tally import LIMITS

_PREFIX = "zoocache_"


class ZooCacheCollector(Collector):
    """What a segment counts, as Prometheus metrics, each with the label `segment`.

    Of the process's own segment, or of the ones that are named. `zoocache_up` is
    0 for one that is not there; nothing is raised, and no segment is made.
    """

    def __init__(self, *segments: str) -> None:
        self._segments = segments

    def describe(self) -> Iterable[Metric]:
        """Nothing: to register it must not need a segment."""
        return []

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily(_PREFIX + "up", "Can the segment be read?", labels=["segment"])
        families: dict[str, Any] = {}
        for segment, cache in self._caches():
            up.add_metric([segment], cache is not None)
            if cache is not None:
                values = metrics.values(cache)
                for one in metrics.METRICS:
                    _add(families, one, values[one.name], segment)
                for distribution in metrics.distributions(cache):
                    _add_histogram(families, distribution, segment)
        yield up
        yield from families.values()

    def _caches(self) -> Iterator[tuple[str, Cache | None]]:
        for name in self._segments:
            yield name, metrics.cache_of(name)
        if not self._segments:
            cache = metrics.cache_of()
            yield _own_name() if cache is None else cache.segment.label, cache


def _own_name() -> str:
    try:
        return config.resolve(["NAME"]).name
    except ConfigError:
        return ""


def _add(families: dict[str, Any], one: metrics.Metric, values: Values, segment: str) -> None:
    kind = CounterMetricFamily if one.kind == metrics.COUNTER else GaugeMetricFamily
    for labels, value in values.items():
        if one.name not in families:
            names = ["segment", *(name for name, _ in labels)]
            families[one.name] = kind(_PREFIX + one.name, one.help, labels=names)
        families[one.name].add_metric([segment, *(text for _, text in labels)], value)


def _add_histogram(families: dict[str, Any], one: Distribution, segment: str) -> None:
    if one.name not in families:
        families[one.name] = HistogramMetricFamily(_PREFIX + one.name, one.help, labels=["segment"])
    so_far, buckets = 0, []
    for i, (n, limit) in enumerate(zip(one.spans.counts, LIMITS, strict=True)):
        so_far += n
        if i % 2 == 0 or limit == float("inf"):  # one for each power of two of nanoseconds
            buckets.append(("+Inf" if limit == float("inf") else repr(limit), float(so_far)))
    families[one.name].add_metric([segment], buckets, one.spans.seconds)
