"""Metrics for Prometheus and OpenTelemetry, and spans: the host's figures, from any process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import zoocache
from zoocache import cacheable, config, metrics, notices
from zoocache.exceptions import ZooCacheError

prometheus_client = pytest.importorskip(
    "prometheus_client", reason='pip install "zoocache[prometheus]"'
)
pytest.importorskip("opentelemetry.sdk", reason="pip install opentelemetry-sdk")

from opentelemetry.sdk.metrics import MeterProvider  # noqa: E402
from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: E402
from opentelemetry.sdk.trace import TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import (  # noqa: E402
    InMemorySpanExporter,
)

from zoocache import otel  # noqa: E402
from zoocache.prometheus import ZooCacheCollector  # noqa: E402


@cacheable(deps=["numbers"])
def doubled(n):
    return 2 * n


def use():
    for n in (1, 2, 1, 1):
        doubled(n)


def scraped(*segments):
    """What one scrape gives: by name and labels."""
    registry = prometheus_client.CollectorRegistry()
    registry.register(ZooCacheCollector(*segments))
    text = prometheus_client.generate_latest(registry).decode()
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if not line.startswith("#")
    }


def test_every_metric_has_its_values(default_cache):
    use()
    assert list(metrics.values(default_cache)) == [one.name for one in metrics.METRICS]


def test_a_scrape_has_what_was_counted(default_cache, short_name):
    use()
    zoocache.invalidate("numbers")
    found = scraped()
    label = f'segment="{short_name}"'
    assert found[f"zoocache_up{{{label}}}"] == 1
    assert found[f'zoocache_misses_total{{cause="absent",{label}}}'] == 2
    hits = [found[f'zoocache_hits_total{{{label},source="{s}"}}'] for s in ("segment", "copies")]
    assert sum(hits) == 2
    assert found[f'zoocache_stores_total{{outcome="stored",{label}}}'] == 2
    assert found[f'zoocache_entries{{{label},state="stale"}}'] == 2
    assert found[f"zoocache_segment_bytes{{{label}}}"] == 1 << 20
    name = f'kind="function",name="{__name__}.doubled"'
    assert found[f'zoocache_site_reads_total{{{name},result="misses",{label}}}'] == 2
    assert found[f"zoocache_site_miss_seconds_total{{{name},{label}}}"] > 0


def test_histograms_add_up(default_cache, short_name):
    use()
    found = scraped()
    label = f'segment="{short_name}"'
    buckets = [n for name, n in found.items() if name.startswith("zoocache_miss_seconds_bucket")]
    assert buckets == sorted(buckets)
    assert buckets[-1] == found[f"zoocache_miss_seconds_count{{{label}}}"] == 2
    assert found[f"zoocache_miss_seconds_sum{{{label}}}"] > 0


def test_any_process_sees_what_another_has_done(default_cache, short_name):
    use()
    script = f"""
import zoocache
from prometheus_client import CollectorRegistry, generate_latest
from zoocache.prometheus import ZooCacheCollector
zoocache.configure(name={short_name!r}, size="1MiB")
registry = CollectorRegistry()
registry.register(ZooCacheCollector())
print(generate_latest(registry).decode())
"""
    zoocache.stats()  # what waits in this process is in the segment now
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert f'zoocache_misses_total{{cause="absent",segment="{short_name}"}} 2.0' in done.stdout
    assert done.stderr == ""


def test_a_segment_that_is_not_there_is_down_and_is_not_made(short_name):
    zoocache.configure(name=short_name)
    try:
        assert scraped() == {f'zoocache_up{{segment="{short_name}"}}': 0}
        assert scraped("no-such") == {'zoocache_up{segment="no-such"}': 0}
        with pytest.raises(ZooCacheError):
            zoocache.shm.Segment(short_name)
    finally:
        config.clear_overrides()


def test_several_segments_in_one_scrape(default_cache, short_name):
    zoocache.shm.Segment(short_name + "-2", 1 << 20)
    found = scraped(short_name, short_name + "-2")
    sizes = [n for name, n in found.items() if name.startswith("zoocache_segment_bytes")]
    assert sizes == [1 << 20, 1 << 20]


@pytest.fixture
def observed(monkeypatch):
    """`observed()` is what a reader sees: values by metric and attributes."""
    monkeypatch.setattr(otel, "_metered", False)
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    otel.instrument(meter_provider=provider, spans=False)

    def read():
        data = reader.get_metrics_data()
        return {
            (one.name, *sorted(point.attributes.items())): point.value
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for one in scope.metrics
            for point in one.data.data_points
        }

    yield read
    provider.shutdown()


def test_opentelemetry_observes_the_same(default_cache, short_name, observed):
    use()
    found = observed()
    segment = ("segment", short_name)
    assert found["zoocache.misses", ("cause", "absent"), segment] == 2
    assert found["zoocache.segment_bytes", segment] == 1 << 20
    assert found["zoocache.miss_measured", segment] == 2
    assert found["zoocache.miss_duration", segment] > 0
    names = {name for name, *_ in found}
    assert {f"zoocache.{one.name}" for one in metrics.METRICS} <= names


def test_opentelemetry_observes_nothing_where_there_is_no_segment(short_name, observed):
    zoocache.configure(name=short_name)
    try:
        assert observed() == {}
    finally:
        config.clear_overrides()


@pytest.fixture
def traced():
    """A tracer, and the spans that are over."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    otel.instrument(tracer_provider=provider, metrics=False)
    yield provider.get_tracer(__name__), exporter
    otel.uninstrument()
    assert notices.reads == []


def test_a_miss_is_a_span_and_a_hit_an_event_of_the_one_around(default_cache, traced):
    tracer, exporter = traced
    with tracer.start_as_current_span("request"):
        doubled(1)
        doubled(1)
    miss, request = exporter.get_finished_spans()
    assert miss.name == f"zoocache miss {__name__}.doubled"
    assert miss.parent.span_id == request.context.span_id
    assert request.start_time <= miss.start_time < miss.end_time <= request.end_time
    assert miss.attributes["zoocache.stored"] is True
    (event,) = request.events
    assert event.name == "zoocache hit"
    assert event.attributes["zoocache.key"] == miss.attributes["zoocache.key"]


def test_without_a_span_around_a_hit_is_nobodys_event(default_cache, traced):
    _, exporter = traced
    doubled(1)
    doubled(1)
    assert [span.name.split()[1] for span in exporter.get_finished_spans()] == ["miss"]


def test_it_goes_beside_prometheus_own_multiprocess_mode(default_cache, short_name, tmp_path):
    """As under gunicorn: what prometheus_client counts comes from files, the host's does not."""
    use()
    zoocache.stats()
    script = f"""
import zoocache
from prometheus_client import CollectorRegistry, Counter, generate_latest, multiprocess
from zoocache.prometheus import ZooCacheCollector
Counter("pages", "Of this site").inc()
zoocache.configure(name={short_name!r}, size="1MiB")
registry = CollectorRegistry()
registry.register(ZooCacheCollector())
multiprocess.MultiProcessCollector(registry)
print(generate_latest(registry).decode())
"""
    env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    command = [sys.executable, "-c", script]
    for pages in (1, 2):
        done = subprocess.run(command, capture_output=True, text=True, env=env)
        assert f"pages_total {pages}.0" in done.stdout, done.stderr
        assert f'cause="absent",segment="{short_name}"}} 2.0' in done.stdout
