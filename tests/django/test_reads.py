"""A cached read equals an uncached one: values, types, order, state, errors, query counts."""

from __future__ import annotations

import datetime
import pickle
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from conftest import empty
from django.core.exceptions import (
    MultipleObjectsReturned,
    ObjectDoesNotExist,
    SynchronousOnlyOperation,
)
from django.db import DataError, InternalError, connections, transaction
from django.db.models import Count, F, Value
from django.test.utils import override_settings
from shop import stock
from shop.models import Category, Product, Store, Tag
from shop.reads import CACHED, EMPTY, ERRORS, UNCACHED, cached, outcome, plain, snapshot

import zoocache

Queries = Callable[..., Any]
IsCached = Callable[[Callable[[], Any]], bool]


# One test for the whole catalogue of a database: filling the shop costs more than the reads.


def test_cached_reads_equal_uncached_ones_and_take_no_query(
    shop: Any, queries: Queries, evidence: Callable[..., None]
) -> None:
    wrong = []
    for name, read in CACHED.items():
        expected = outcome(read, plain)
        assert not _failed(expected), (name, expected)
        first = outcome(read, cached)
        with queries() as captured:
            second = outcome(read, cached)
        if not expected == first == second:
            wrong.append((name, expected, first, second))
        if len(captured):
            wrong.append((name, [query["sql"] for query in captured]))
    assert not wrong, "\n".join(map(str, wrong))
    evidence(f"reads from the cache on {shop.vendor}", shapes=len(CACHED))


def _failed(found: Any) -> bool:
    """Did the read raise? Two errors are easily alike: they would say nothing of the rows."""
    kind, *message = found
    return (
        isinstance(kind, type)
        and issubclass(kind, Exception)
        and not issubclass(kind, ObjectDoesNotExist | MultipleObjectsReturned)
        and "time zone definitions" not in str(message)  # MySQL's server may have none
    )


def test_reads_that_must_not_be_cached_take_a_query_each_time(shop: Any, queries: Queries) -> None:
    wrong = []
    for name, read in UNCACHED.items():
        expected = outcome(read, plain)
        for attempt in ("first", "second", "third"):
            with queries() as captured:
                got = outcome(read, cached)
            if got != expected or not len(captured):
                wrong.append((name, attempt, expected, got, len(captured)))
    assert not wrong


def test_reads_of_nothing_take_no_query(shop: Any, queries: Queries) -> None:
    for read in EMPTY.values():
        with queries(0):
            assert outcome(read, cached) == outcome(read, plain)


def test_errors_are_the_same(shop: Any) -> None:
    for name, read in ERRORS.items():
        expected = outcome(read, plain)
        assert isinstance(expected[0], type), name
        assert issubclass(expected[0], Exception), name
        assert outcome(read, cached) == expected, name
        assert outcome(read, cached) == expected, name


def test_hits_share_nothing(shop: Any) -> None:
    """Changing what a hit gave changes no later hit."""
    rows = list(Product.cached.order_by("pk"))
    for _ in range(2):
        rows = list(Product.cached.order_by("pk"))
        rows[0].name = "changed"
        rows[0].data["n"] = "changed"
    values = list(Product.cached.order_by("pk").values())
    values = list(Product.cached.order_by("pk").values())
    values[0]["data"]["n"] = "changed"
    assert Product.cached.order_by("pk").first().data["n"] == 1
    assert Product.cached.order_by("pk").values()[0]["data"]["n"] == 1
    assert Product.cached.order_by("pk").first().name == "product 1"


def test_a_hit_can_be_saved(shop: Any) -> None:
    Product.cached.get(pk=1)
    product = Product.cached.get(pk=1)
    product.stock = 77
    product.save()
    assert Product.objects.get(pk=1).stock == 77
    assert Product.cached.get(pk=1).stock == 77
    product.refresh_from_db()
    assert product.stock == 77


def test_the_time_zone_is_part_of_the_key(shop: Any) -> None:
    if shop.vendor == "mysql" and not shop.features.has_zoneinfo_database:
        pytest.skip("the server has no time zones: mysql_tzinfo_to_sql loads them")
    here = snapshot(CACHED["trunc"](cached))
    from django.utils import timezone

    with timezone.override(datetime.timezone(datetime.timedelta(hours=9))):
        there = snapshot(CACHED["trunc"](cached))
        assert there == snapshot(CACHED["trunc"](plain))
    assert here != there
    assert snapshot(CACHED["trunc"](cached)) == here


def test_parameters_that_are_equal_but_not_the_same(shop: Any) -> None:
    """1, True, 1.0 and "1" are one number to Python's dict, but not to SQL."""
    from decimal import Decimal

    for value in (1, True, 1.0, Decimal("1"), Decimal("1.0"), Decimal("1.00")):

        def read(manager: Any, value: Any = value) -> Any:
            return manager(Category).annotate(x=Value(value)).order_by("pk").first().x

        assert outcome(read, cached) == outcome(read, plain)
        assert outcome(read, cached) == outcome(read, plain)


def test_aliases_are_kept_apart(sqlite: Any, zoo: None) -> None:
    other = connections["other"]
    empty(other)
    Category.objects.create(pk=1, name="here")
    Category.objects.using("other").create(pk=1, name="there")
    try:
        for _ in range(3):
            assert Category.cached.get(pk=1).name == "here"
            there = Category.cached.using("other").get(pk=1)
            assert (there.name, there._state.db) == ("there", "other")
    finally:
        other.close()


def test_querysets_can_be_pickled(shop: Any, queries: Queries) -> None:
    expected = snapshot(list(Product.objects.filter(category=1).order_by("pk")))
    queryset = Product.cached.filter(category=1).order_by("pk")
    assert snapshot(list(pickle.loads(pickle.dumps(queryset)))) == expected
    again = Product.cached.all()
    again.query = pickle.loads(pickle.dumps(queryset.query))
    assert snapshot(list(again)) == expected  # it has no recipe, and an entry of its own
    with queries(0):
        assert snapshot(list(again.all())) == expected


def test_a_queryset_evaluates_once(shop: Any, queries: Queries) -> None:
    queryset = Product.cached.filter(active=True)
    with queries(0):
        queryset.filter(category=1).exclude(pk=3).order_by("pk")
    with queries(1):
        list(queryset)
        list(queryset)
        len(queryset)


def test_the_mark_survives_chaining_and_no_cache_ends_it(shop: Any, queries: Queries) -> None:
    for queryset in (
        Product.objects.zoocache().filter(pk=1),
        Product.objects.filter(pk=1).zoocache(ttl=5).order_by("pk").distinct(),
        Product.cached.no_cache().zoocache().filter(pk=1),
    ):
        list(queryset.all())
        with queries(0):
            list(queryset.all())
    for queryset in (
        Product.cached.filter(pk=1).no_cache().order_by("pk"),
        Product.objects.filter(pk=1).no_cache(),
        Product.objects.filter(pk=1).union(Product.cached.filter(pk=2)),
    ):
        for _ in range(2):
            with queries(1):
                list(queryset.all())


def test_a_subquery_may_be_cached_or_not(shop: Any, queries: Queries) -> None:
    """Whether the outer queryset is cached is what counts."""
    inner = Category.cached.filter(rank=0)
    for _ in range(2):
        with queries(1):
            list(Product.objects.filter(category__in=inner))
    outer = Product.cached.filter(category__in=Category.objects.no_cache().filter(rank=0))
    list(outer.all())
    with queries(0):
        list(outer.all())


def test_a_prefetch_may_say_no(shop: Any, queries: Queries) -> None:
    from django.db.models import Prefetch

    queryset = Product.cached.prefetch_related(Prefetch("tags", Tag.objects.no_cache()))
    list(queryset.all())
    with queries(1):
        list(queryset.all())


def test_a_plain_queryset_that_prefetches_a_cached_one(shop: Any, queries: Queries) -> None:
    from django.db.models import Prefetch

    queryset = Product.objects.prefetch_related(Prefetch("tags", Tag.cached.all()))
    list(queryset.all())
    with queries(1):
        list(queryset.all())


def test_in_async_code_a_hit_raises_what_a_miss_raises(shop: Any) -> None:
    from asgiref.sync import async_to_sync

    list(Product.cached.filter(pk=1))

    async def read() -> None:
        list(Product.cached.filter(pk=1))

    with pytest.raises(SynchronousOnlyOperation):
        async_to_sync(read)()


def test_in_a_broken_transaction_a_hit_raises_what_a_miss_raises(shop: Any) -> None:
    Tag.cached.get(pk=1)
    with transaction.atomic(using=shop.alias):
        transaction.set_rollback(True, using=shop.alias)
        with pytest.raises(transaction.TransactionManagementError):
            Tag.cached.get(pk=1)


@pytest.mark.parametrize("begin", ["atomic", "raw", "no autocommit"])
def test_after_an_error_that_only_the_server_knows_of_a_hit_raises_what_a_miss_raises(
    begin: str, postgres: Any
) -> None:
    stock.fill()
    Tag.cached.get(pk=1)

    def fail_and_read() -> None:
        with suppress(DataError), postgres.cursor() as cursor:
            cursor.execute("SELECT 1 / 0")
        for manager in (Tag.objects, Tag.cached):
            with pytest.raises(InternalError):
                manager.get(pk=1)

    if begin == "atomic":
        with transaction.atomic(using="pg"):
            fail_and_read()
            transaction.set_rollback(True, using="pg")
    elif begin == "raw":
        with postgres.cursor() as cursor:
            cursor.execute("BEGIN")
            fail_and_read()
            cursor.execute("ROLLBACK")
    else:
        transaction.set_autocommit(False, using="pg")
        fail_and_read()
        transaction.rollback(using="pg")
        transaction.set_autocommit(True, using="pg")
    assert Tag.cached.get(pk=1).name == Tag.objects.get(pk=1).name


def test_serializable_transactions_read_the_database(postgres: Any, queries: Queries) -> None:
    stock.fill()
    Product.cached.get(pk=1)
    with transaction.atomic(using="pg"):
        with postgres.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        for _ in range(2):
            with queries(1):
                Product.cached.get(pk=1)


def test_a_lock_is_taken_each_time(shop: Any, queries: Queries) -> None:
    for _ in range(2):
        with transaction.atomic(using=shop.alias), queries() as captured:
            list(Product.cached.select_for_update().filter(pk=1))
        assert any("SELECT" in query["sql"] for query in captured)


def test_a_lock_in_a_subquery_is_taken_each_time(postgres: Any, queries: Queries) -> None:
    stock.fill()
    locked = Category.objects.select_for_update().filter(rank=0).values("pk")[:1]
    for _ in range(2):
        with transaction.atomic(using="pg"), queries() as captured:
            list(Product.cached.filter(category__in=locked))
        assert any("FOR UPDATE" in query["sql"] for query in captured)


def test_ttl_is_kept_apart(shop: Any, queries: Queries) -> None:
    """What was stored for ever is not served to one who asked for 60 seconds."""
    list(Product.cached.filter(pk=1))
    with queries(1):
        list(Product.cached.filter(pk=1).zoocache(ttl=60))
    with queries(0):
        list(Product.cached.filter(pk=1).zoocache(ttl=60))


def test_disabled_is_a_pass_through(shop: Any, queries: Queries) -> None:
    zoocache.configure(enabled=False)
    for _ in range(2):
        with queries(1):
            assert Product.cached.get(pk=1).pk == 1


def test_the_setting_configures(shop: Any, queries: Queries, segment_name: str) -> None:
    from zoocache import config

    config.clear_overrides()
    with override_settings(ZOOCACHE={"NAME": segment_name + "-x", "SIZE": "2MiB"}):
        list(Product.cached.filter(pk=1))
        with queries(0):
            list(Product.cached.filter(pk=1))
    with override_settings(ZOOCACHE={"NAME": segment_name + "-x", "ENABLED": False}), queries(1):
        list(Product.cached.filter(pk=1))


def test_parts_of_a_page_can_be_nested(shop: Any, is_cached: IsCached) -> None:
    assert is_cached(
        lambda: [
            (c.pk, [p.pk for p in Product.cached.filter(category=c).order_by("pk")])
            for c in Category.cached.annotate(n=Count("product")).filter(n__gt=F("rank") * 0)
        ]
    )


def test_a_table_without_a_manager_is_cached_only_as_part_of_others(
    shop: Any, queries: Queries
) -> None:
    list(Product.cached.select_related("store"))
    for _ in range(2):
        with queries(1):
            list(Store.objects.all())
