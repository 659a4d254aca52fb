"""Promises 35 and 36, over the ORM: functions and their values."""

from __future__ import annotations

import logging
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connections
from django.db.models import Func
from django.db.models.functions import Now
from shop import routing, stock
from shop.models import Book, Product, Tag
from shop.reads import snapshot
from shop.stock import name_of, rename

from zoocache import add_deps, cacheable, invalidate

Queries = Callable[..., Any]
IsCached = Callable[[Callable[[], Any]], bool]


@pytest.fixture
def calls() -> list[Any]:
    return []


def test_35_functions_over_cached_querysets_inherit_their_dependencies(
    shop: Any, calls: list[Any], is_cached: IsCached
) -> None:
    @cacheable()
    def inner(category: int) -> list[str]:
        calls.append(category)
        return [product.name for product in Product.cached.filter(category=category)]

    @cacheable()
    def outer() -> list[list[str]]:
        calls.append("outer")
        return [inner(1), inner(2)]

    outer()
    outer()
    assert calls == ["outer", 1, 2]
    Product.objects.filter(pk=2).update(name="not in them")
    calls.clear()
    outer()
    rename("x", 1)  # in category 2
    calls.clear()
    assert "x" in outer()[1]
    assert calls == ["outer", 2]


def test_35_a_hit_of_a_queryset_hands_its_dependencies_on(shop: Any) -> None:
    name_of()

    @cacheable()
    def name() -> str:
        return name_of()  # a hit

    assert name() == "product 1"
    rename("x")
    assert name() == "x"


def test_35_async_functions(shop: Any, calls: list[Any]) -> None:
    @cacheable(deps=lambda pk: [f"Product:{pk}"])
    async def name(pk: int) -> str:
        calls.append(pk)
        return (await Product.cached.aget(pk=pk)).name

    assert async_to_sync(name)(1) == async_to_sync(name)(1) == "product 1"
    assert calls == [1]
    rename("x", 2)
    assert async_to_sync(name)(1) == "product 1"
    assert calls == [1]
    rename("x")
    assert async_to_sync(name)(1) == "x"


def test_35_a_function_that_depends_on_a_row(shop: Any, calls: list[Any]) -> None:
    @cacheable(deps=["Product:1"])
    def name() -> str:
        calls.append(1)
        return Product.objects.get(pk=1).name

    name(), rename("other", 2), name()
    assert calls == [1]
    rename("x")
    assert name() == "x"
    Product.objects.filter(pk=1).update(name="y")
    assert name() == "y"
    with connections[routing.active].cursor() as cursor:
        cursor.execute("UPDATE shop_product SET name = 'z'")
    assert name() == "z"


@pytest.mark.parametrize("tag", ["Book:9", "Book", "shop.book:9"])
def test_35_a_function_that_depends_on_a_multi_table_child(tag: str, shop: Any) -> None:

    @cacheable(deps=[tag])
    def name() -> str:
        return Book.objects.get(pk=9).name

    assert name() == "book 1"
    Product.objects.filter(pk=9).update(name="x")
    assert name() == "x"


def test_35_add_deps(shop: Any, calls: list[Any]) -> None:
    @cacheable()
    def name(pk: int) -> str:
        calls.append(pk)
        add_deps([f"Product:{pk}", "shelf"])
        return Product.objects.get(pk=pk).name

    name(1), name(2), name(1)
    assert calls == [1, 2]
    rename("x")
    assert name(1) == "x"
    name(2)
    assert calls == [1, 2, 1]
    invalidate("shelf")
    name(2)
    assert calls == [1, 2, 1, 2]


def test_35_key_and_none(shop: Any, calls: list[Any]) -> None:
    @cacheable(key=lambda product: product.pk, deps=lambda product: [f"Product:{product.pk}"])
    def stock_of(product: Product) -> int | None:
        calls.append(product.pk)
        return product.stock

    product = Product.objects.get(pk=4)
    assert stock_of(product) is None
    assert stock_of(product) is None
    assert calls == [4]


@pytest.mark.parametrize(
    "query",
    [
        lambda: list(Product.cached.filter(made__lt=Now())),
        lambda: list(Product.cached.iterator()),
        lambda: list(Product.cached.annotate(x=Func("name", function="UPPER"))),
        lambda: list(Product.cached.extra(where=["1 = 1"])),
    ],
)
def test_35_a_cached_queryset_of_unknown_dependencies_keeps_the_function_uncached(
    query: Callable[[], Any], shop: Any, calls: list[Any]
) -> None:
    @cacheable()
    def names() -> list[str]:
        calls.append(1)
        return [product.name for product in query()]

    @cacheable()
    def outer() -> list[str]:
        return names()

    outer()
    Product.objects.update(name="x")
    assert set(outer()) == set(names()) == {"x"}
    assert len(calls) == 3


def test_35_a_marked_queryset_read_under_a_pin_keeps_the_function_uncached(sqlite: Any) -> None:
    stock.fill()

    @cacheable()
    def name() -> str:
        rows = Tag.objects.iterator(chunk_size=1)
        next(rows)
        found = name_of()
        rows.close()
        return found

    name()
    rename("x")
    assert name() == "x"


def test_36_an_unstorable_result_is_returned_and_logged_once(
    sqlite: Any, caplog: pytest.LogCaptureFixture
) -> None:
    stock.fill()

    @cacheable()
    def product() -> Product:
        return Product.cached.get(pk=1)

    with caplog.at_level(logging.ERROR, "zoocache"):
        for _ in range(3):
            assert product().pk == 1
    assert len([r for r in caplog.records if "test_36" in r.getMessage()]) == 1


def test_36_types_survive_a_function(shop: Any) -> None:
    fields = ["price", "made", "day", "data"]

    @cacheable()
    def rows() -> Any:
        return list(Product.cached.order_by("pk").values_list(*fields))

    expected = snapshot(list(Product.objects.order_by("pk").values_list(*fields)))
    assert snapshot(rows()) == expected
    assert snapshot(rows()) == expected
    assert type(rows()[0][0]) is Decimal
