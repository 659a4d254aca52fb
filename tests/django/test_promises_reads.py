"""Promises 4, 5, 9, 10 and 14 to 20: what is read from the cache, and what is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import models
from django.db.models import Count, Func, Q
from django.db.models.functions import Now
from shop.models import Category, Product, Quick, Store, Tag
from shop.reads import snapshot
from shop.routing import atomic
from shop.stock import rename

import zoocache

Queries = Callable[..., Any]
Elsewhere = Callable[[Callable[[], Any]], Any]


def test_4_one_query_then_none(shop: Any, queries: Queries) -> None:
    expected = snapshot(list(Product.objects.filter(active=True)))
    for number in (1, 0, 0):
        with queries(number):
            assert snapshot(list(Product.cached.filter(active=True))) == expected


def test_4_another_worker_gets_the_hit(shop: Any, elsewhere: Elsewhere) -> None:
    list(Product.cached.filter(active=True))
    before = zoocache.stats()["hits"]
    elsewhere(lambda: list(Product.cached.filter(active=True)))
    assert zoocache.stats()["hits"] == before + 1


def test_5_querysets_stay_lazy(shop: Any, queries: Queries) -> None:
    with queries(0):
        queryset = (
            Product.cached.filter(active=True)
            .zoocache(ttl=5)
            .select_related("category")
            .prefetch_related("tags")
            .annotate(n=Count("tags"))
            .order_by("pk")[:3]
        )
    with queries(2):
        list(queryset)


def test_9_select_related(shop: Any, queries: Queries) -> None:
    def read() -> Any:
        return list(Product.cached.select_related("category", "store").filter(category_id=1))

    read()
    with queries(0):
        assert {product.category.name for product in read()} == {"a"}
        assert read()[0].store is None or read()[0].store.name
    Category.objects.filter(pk=1).update(name="z")
    assert {product.category.name for product in read()} == {"z"}
    store = Store.objects.get(pk=1)  # has no manager of ours
    store.name = "y"
    store.save()
    assert "y" in {product.store.name for product in read() if product.store}


def test_10_save_and_delete_leave_the_rest_alone(shop: Any, queries: Queries) -> None:
    reads = {pk: lambda pk=pk: Product.cached.filter(pk=pk).first() for pk in (1, 2, 3)}
    for read in reads.values():
        read()
    rename("x", 1)
    with queries(1):
        assert reads[1]().name == "x"
    with queries(0):
        reads[2]()
        reads[3]()


def test_14_ttl(shop: Any, queries: Queries, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoocache import store

    queryset = Product.cached.filter(active=True).zoocache(ttl=60).exclude(pk=3).order_by("pk")
    assert Quick.cached.all().query.zoocache.ttl == 300
    list(queryset.all())
    with queries(0):
        list(queryset.all())
    target = store.cache()
    assert target is not None
    target.segment.shift_time(61)
    with queries(1):
        list(queryset.all())


def test_15_no_cache(shop: Any, queries: Queries) -> None:
    for manager in (Product.objects, Product.cached):
        for _ in range(2):
            with queries(1):
                list(manager.filter(active=True).no_cache())
            with queries(1):
                list(manager.no_cache().filter(active=True))


def test_16_the_pages_complex_query(shop: Any, queries: Queries) -> None:
    def read() -> Any:
        products = (
            Product.cached.filter(Q(category__in=[1, 2, 3]) | Q(price__lt=100), active=True)
            .select_related("category")
            .prefetch_related("tags")
        )
        return [
            (p.name, p.category and p.category.name, sorted(t.name for t in p.tags.all()))
            for p in products.order_by("pk")
        ]

    def uncached() -> Any:
        return [
            (p.name, p.category and p.category.name, sorted(t.name for t in p.tags.all()))
            for p in Product.objects.filter(
                Q(category__in=[1, 2, 3]) | Q(price__lt=100), active=True
            ).order_by("pk")
        ]

    writes: list[Callable[[], Any]] = [
        lambda: rename("x"),
        lambda: Category.objects.filter(pk=2).update(name="x"),
        lambda: Tag.objects.filter(pk=1).update(name="x"),
        lambda: Product.objects.get(pk=1).tags.set([2, 3]),
        lambda: Tag.objects.get(pk=2).product_set.clear(),
        lambda: Product.objects.get(pk=2).delete(),
    ]
    for write in writes:
        read()
        with queries(0):
            read()
        before = read()
        write()
        assert read() == uncached() != before


def test_17_the_pages_aggregation(shop: Any, queries: Queries) -> None:
    def read() -> dict[int, int]:
        categories = Category.cached.annotate(product_count=Count("product"))
        return {category.pk: category.product_count for category in categories}

    def uncached() -> dict[int, int]:
        return {c.pk: c.product_set.count() for c in Category.objects.all()}

    for write in (
        lambda: Product.objects.create(name="x", category_id=3),
        lambda: Product.objects.filter(category=1).first().delete(),
        lambda: Product.objects.filter(category=1).update(category=2),
    ):
        read()
        with queries(0):
            before = read()
        write()
        assert read() == uncached() != before


def test_18_raw_is_never_cached(shop: Any, queries: Queries) -> None:
    expected = Product.objects.filter(active=True).count()
    for manager in (Product.objects, Product.cached):
        for _ in range(2):
            with queries(1):
                products = manager.raw("SELECT * FROM shop_product WHERE active = %s", [True])
                assert len(list(products)) == expected


@pytest.mark.parametrize(
    "query",
    [
        lambda: Product.cached.filter(made__lt=Now()),
        lambda: Product.cached.annotate(t=Now()),
        lambda: Product.cached.order_by("?"),
        lambda: Product.cached.annotate(x=Func("name", function="UPPER")),
        lambda: Product.cached.extra(select={"x": "1"}),
        lambda: Product.cached.annotate(x=models.expressions.RawSQL("1", [])),
    ],
)
def test_20_what_is_not_deterministic_is_not_cached(
    query: Callable[[], Any], shop: Any, queries: Queries
) -> None:
    for _ in range(3):
        with queries(1):
            list(query())


def test_20_locks_are_taken(shop: Any, queries: Queries) -> None:
    for _ in range(2):
        with atomic(), queries() as captured:
            Product.cached.select_for_update().get(pk=1)
        assert any("shop_product" in query["sql"] for query in captured)
