"""What is counted of the functions that read through the cache, and of how long it takes."""

from __future__ import annotations

import multiprocessing
import time

import pytest

import zoocache
from zoocache import cacheable, local, sites, store
from zoocache.shm import tally
from zoocache.sites import FUNCTION, Label, Site, label_of


def counted(name):
    zoocache.stats()
    found = sites.counted(store.cache())
    return next(counts for label, counts in found.items() if label.name.endswith(name))


def test_hits_misses_and_bytes_of_a_function(default_cache):
    @cacheable(deps=["numbers"])
    def doubled(n):
        time.sleep(0.001)
        return [2 * n]  # a list: no copy of it is kept here

    for n in (1, 1, 1, 2):
        doubled(n)
    found = counted("doubled")
    assert (found.hits, found.misses, found.stored, found.refused) == (2, 2, 2, 0)
    assert 0 < found.size < 100
    assert found.ns >= 2_000_000
    assert tally.fills(default_cache).total == 2
    assert tally.fills(default_cache).quantile(0.5) > 0.001


def test_what_cannot_be_stored_is_a_refused_fill(default_cache, caplog):
    @cacheable()
    def unstorable():
        return object()

    unstorable()
    found = counted("unstorable")
    assert (found.misses, found.stored, found.refused, found.size) == (1, 0, 1, 0)


def test_an_exception_is_a_miss_and_no_refused_fill(default_cache):
    @cacheable()
    def failing():
        raise LookupError

    with pytest.raises(LookupError):
        failing()
    found = counted("failing")
    assert (found.misses, found.stored, found.refused) == (1, 0, 0)


def test_hits_of_own_copies_are_sampled_and_add_up(default_cache):
    """One in some 48 is looked at, and stands for all since the one before."""

    @cacheable()
    def one(n):
        return n

    @cacheable()
    def other(n):
        return n

    for function in (one, other):
        for n in range(2):  # stored, then kept
            for _ in range(2):
                function(n)
    before = zoocache.stats()["local"]
    for _ in range(10_000):  # a pattern of three, two of one function
        one(0)
        one(1)
        other(0)
    assert zoocache.stats()["local"] - before == 29_997  # each entry was renewed once
    ones, others = counted(".one").hits, counted(".other").hits
    assert ones + others == pytest.approx(30_000, abs=100)
    assert ones == pytest.approx(20_000, rel=0.1)


def test_hits_count_where_no_copies_are_kept(default_cache):
    zoocache.configure(local=0)

    @cacheable()
    def plain():
        return 1

    for _ in range(10):
        plain()
    assert local.gate.level is None
    assert counted("plain").hits == 9


def test_counts_outlive_their_process(default_cache):
    def work():
        site = sites.of_function("elsewhere")
        site.hits += 3
        sites.flush(store.cache())

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(20)
    assert process.exitcode == 0
    assert counted("elsewhere").hits == 3


def test_a_fork_does_not_count_what_its_parent_counts(default_cache):
    site = sites.of_function("parents")
    site.hits += 5
    process = multiprocessing.get_context("fork").Process(target=lambda: sites.flush(store.cache()))
    process.start()
    process.join(20)
    assert counted("parents").hits == 5


def test_another_segment_counts_anew(default_cache, short_name):
    site = sites.of_function("moved")
    site.hits += 1
    sites.flush(store.cache())
    zoocache.configure(name=short_name + "-2")
    store.cache()
    site.hits += 1
    assert counted("moved").hits == 1


def test_labels_come_back_and_long_ones_keep_their_ends():
    for label in (Label(FUNCTION, "shop.views.front", ""), Label("query", "shop.Item", "a:12")):
        assert label_of(label.text()) == label
    long = label_of(Label(FUNCTION, "x" * 200 + ".front", "").text())
    assert long.name.endswith("x.front")
    assert long.name.startswith("…")
    assert len(long.text().encode()) == 112


def test_too_many_names_share_one_site(monkeypatch):
    monkeypatch.setattr(sites, "_MOST", 0)
    one, other = sites.of_function("never seen 1"), sites.of_function("never seen 2")
    assert one is other
    assert isinstance(one, Site)
    assert one.label == Label("", "", "")


def test_the_place_is_the_caller_s():
    assert sites.place() == f"{__name__}:{sites.sys._getframe().f_lineno}"


def test_quantiles_are_limits_of_buckets():
    counts = [0] * len(tally.LIMITS)
    assert tally.Spans(tuple(counts), 0.0).quantile(0.5) is None
    counts[3], counts[10] = 99, 1
    spans = tally.Spans(tuple(counts), 1.0)
    assert spans.quantile(0.5) == tally.LIMITS[3]
    assert spans.quantile(0.999) == tally.LIMITS[10]


def test_gets_of_the_core_are_measured(cache):
    cache.set("key", b"value")
    for _ in range(1000):
        cache.get("key")
    found = tally.gets(cache)
    assert 10 < found.total < 32
    assert 0 < found.seconds < 1
