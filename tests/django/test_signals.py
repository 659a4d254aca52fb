"""Signals and logs tell of each read and each invalidation, if anybody listens."""

from __future__ import annotations

import gc
import logging

import pytest
from django.db import transaction
from shop.models import Category, Product

import zoocache
from zoocache import cacheable, local, logs, notices, store
from zoocache.contrib.django import cached, signals

KINDS = ("hit", "miss", "bypass", "invalidate")


@pytest.fixture
def told():
    """What is told from now on: pairs of a signal's name and what it came with."""
    found, receivers = [], {}
    for name in KINDS:

        def receiver(_kind=name, **given):
            found.append((_kind, given))

        receivers[name] = receiver
        getattr(signals, name).connect(receiver)
    yield found
    for name, receiver in receivers.items():
        assert getattr(signals, name).disconnect(receiver)
    assert notices.reads == []
    assert notices.drops == []


def of(told, kind):
    return [given for name, given in told if name == kind]


def test_who_listens_is_busy_and_nobody_else(sqlite):
    assert notices.reads == notices.drops == []
    before = set(local.busy)
    with notices.collecting():
        assert len(local.busy - before) == 1
    assert local.busy == before


def test_two_threads_may_collect_at_once(sqlite, elsewhere):
    def read(name):
        with notices.collecting() as found:
            list(Category.cached.filter(name=name))
        return [one.kind for one in found]

    with notices.collecting() as mine:
        assert elsewhere(lambda: read("a")) == ["miss"]
        assert mine == []
        list(Category.cached.filter(name="b"))
    assert [one.kind for one in mine] == ["miss"]
    assert notices.reads == []


def test_a_miss_and_hits_of_a_queryset(sqlite, told, queries):
    for _ in range(3):
        list(Category.cached.filter(name="a"))
    (missed,) = of(told, "miss")
    assert missed["sender"] is Category
    assert missed["name"] == "shop.Category"
    assert missed["place"].startswith(f"{__name__}:")
    assert missed["stored"] is True
    assert missed["size"] > 0
    assert missed["seconds"] > 0
    hits = of(told, "hit")
    assert [one["key"] for one in hits] == [missed["key"]] * 2  # in the segment, and a copy
    assert all(one["seconds"] > 0 and one["sender"] is Category for one in hits)
    with queries(0):
        list(Category.cached.filter(name="a"))
    assert len(of(told, "hit")) == 3


def test_a_queryset_that_is_no_recipe(sqlite, told):
    for _ in range(2):
        list(cached(Product.objects.select_related("category")).order_by("name"))
    assert [name for name, _ in told] == ["miss", "hit"]


def test_functions_have_no_sender(sqlite, told):
    @cacheable()
    def answer():
        return 42

    for _ in range(4):
        answer()
    assert [name for name, _ in told] == ["miss", "hit", "hit", "hit"]
    assert {given["sender"] for _, given in told} == {None}
    assert told[0][1]["name"].endswith("answer")


def test_a_bypass_says_why(sqlite, told):
    with transaction.atomic():
        Category.objects.create(name="a")
        list(Category.cached.all())
    (bypassed,) = of(told, "bypass")
    assert bypassed["reason"] == "the transaction has written to a table of it"
    assert bypassed["key"] == b""
    assert bypassed["seconds"] > 0


def test_what_must_not_be_stored_is_a_miss_with_a_reason(sqlite, told):
    list(Product.cached.extra(select={"now": "random()"}))
    (missed,) = of(told, "miss")
    assert missed["stored"] is False
    assert missed["reason"]


def test_invalidations_by_hand_by_commit_and_of_all(sqlite, told):
    zoocache.invalidate("feathers")
    Category.objects.create(name="a")
    zoocache.clear()
    by_hand, commit, cleared = [(one["cause"], one["tags"]) for one in of(told, "invalidate")]
    assert by_hand == ("invalidate", frozenset(["feathers"]))
    assert commit[0] == "commit"
    assert "@shop_category:any" in commit[1]
    assert cleared == ("clear", None)


def test_a_rollback_invalidates_nothing(sqlite, told):
    with transaction.atomic():
        Category.objects.create(name="a")
        transaction.set_rollback(True)
    assert of(told, "invalidate") == []


def test_a_receiver_that_raises_breaks_no_read(sqlite, caplog):
    def receiver(**given):
        raise LookupError("of the receiver")

    signals.hit.connect(receiver)
    try:
        for _ in range(3):
            assert list(Category.cached.all()) == []
    finally:
        signals.hit.disconnect(receiver)


def test_receivers_that_are_gone_are_not_listened_for(sqlite):
    def make():
        def receiver(**given):
            pass

        signals.hit.connect(receiver)

    make()
    gc.collect()
    assert notices.reads
    for _ in range(2):
        list(Category.cached.all())
    assert notices.reads == []


def test_reads_are_logged_with_fields_where_debug_is_on(sqlite, caplog):
    for logger in (logs.reads, logs.invalidations):
        caplog.set_level(logging.DEBUG, logger=logger.name)
    logs.start()
    try:
        for _ in range(2):
            list(Category.cached.filter(name="b"))
        Category.objects.create(name="b")
        zoocache.clear()
    finally:
        for logger in (logs.reads, logs.invalidations):
            logger.setLevel(logging.NOTSET)
        logs.start()
    missed, hit, *_ = [one for one in caplog.records if one.name == "zoocache.reads"]
    assert (missed.zoocache_kind, hit.zoocache_kind) == ("miss", "hit")
    assert missed.zoocache_name == hit.zoocache_name == "shop.Category"
    assert missed.zoocache_segment == store.settings().name
    assert missed.zoocache_key == hit.zoocache_key
    assert missed.zoocache_stored is True
    assert missed.getMessage().startswith("miss: shop.Category at ")
    commit, cleared = [one for one in caplog.records if one.name == "zoocache.invalidations"]
    assert commit.zoocache_cause == "commit"
    assert "@shop_category:any" in commit.zoocache_tags
    assert (cleared.zoocache_cause, cleared.zoocache_tags) == ("clear", None)
    assert notices.reads == notices.drops == []


def test_problems_are_logged_with_the_segment(sqlite, caplog):
    store.cache()
    store.log_once("something is wrong")
    assert caplog.records[-1].zoocache_segment == store.settings().name


def test_a_listener_that_raises_is_told_no_more(sqlite, caplog):
    def broken(event):
        raise LookupError("of the listener")

    notices.listen_to_reads(broken)
    notices.listen_to_drops(broken)
    for _ in range(2):
        assert list(Category.cached.all()) == []
        zoocache.invalidate("feathers")
    assert notices.reads == notices.drops == []
    told = [one for one in caplog.records if "told no more" in one.getMessage()]
    assert [one.exc_info[0] for one in told] == [LookupError, LookupError]
