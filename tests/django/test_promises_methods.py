"""Promise 19: every method of a queryset works on `Product.cached`, in sync and async code."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import models, transaction
from django.db.models import Count, Q, QuerySet
from shop import routing, stock
from shop.models import Product
from shop.reads import cached, plain, snapshot
from shop.routing import atomic

Queries = Callable[..., Any]


def call(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


def product(pk: int = 99) -> Product:
    return Product(pk=pk, name="new", price=1)


# What each method is called with, given the manager that it is called on.
READS: dict[str, Callable[[Any], Any]] = {
    "aggregate": lambda M: call(Count("pk")),
    "alias": lambda M: call(n=Count("tags")),
    "all": lambda M: call(),
    "annotate": lambda M: call(n=Count("tags")),
    "complex_filter": lambda M: call(Q(active=True)),
    "contains": lambda M: call(product(1)),
    "count": lambda M: call(),
    "dates": lambda M: call("day", "month"),
    "datetimes": lambda M: call("made", "hour"),
    "defer": lambda M: call("name"),
    "difference": lambda M: call(M.filter(pk=1)),
    "distinct": lambda M: call(),
    "earliest": lambda M: call("pk"),
    "exclude": lambda M: call(active=True),
    "exists": lambda M: call(),
    "explain": lambda M: call(),
    "extra": lambda M: call(select={"one": "1"}),
    "fetch_mode": lambda M: call(models.FETCH_PEERS),
    "filter": lambda M: call(active=True),
    "first": lambda M: call(),
    "get": lambda M: call(pk=1),
    "in_bulk": lambda M: call([1, 2, 99]),
    "intersection": lambda M: call(M.filter(pk=1)),
    "iterator": lambda M: call(chunk_size=2),
    "last": lambda M: call(),
    "latest": lambda M: call("pk"),
    "none": lambda M: call(),
    "only": lambda M: call("name"),
    "order_by": lambda M: call("-name"),
    "prefetch_related": lambda M: call("tags"),
    "raw": lambda M: call("SELECT * FROM shop_product"),
    "reverse": lambda M: call(),
    "select_for_update": lambda M: call(),
    "select_related": lambda M: call("category"),
    "union": lambda M: call(M.filter(pk=1)),
    "using": lambda M: call(routing.active),
    "values": lambda M: call("name"),
    "values_list": lambda M: call("name", "price"),
}
WRITES: dict[str, Callable[[Any], Any]] = {
    "bulk_create": lambda M: call([product(98), product(99)]),
    "bulk_update": lambda M: call([product(1), product(2)], ["name"]),
    "create": lambda M: call(pk=99, name="new"),
    "delete": lambda M: call(),
    "get_or_create": lambda M: call(pk=99, defaults={"name": "new"}),
    "update": lambda M: call(name="new"),
    "update_or_create": lambda M: call(pk=1, defaults={"name": "new"}),
}
LEFT_TO_THE_DATABASE = {"explain", "extra", "iterator", "raw", "select_for_update"}
# What is no query, on the class or an instance.
OTHERS = {"as_manager", "db", "ordered", "query", "resolve_expression", "totally_ordered"}


def methods(of: dict[str, Any]) -> list[str]:
    """Those that this Django has, and their asynchronous twins."""
    return [name for each in of for name in (each, "a" + each) if hasattr(QuerySet, name)]


def test_19_no_method_is_forgotten() -> None:
    public = {name for name in dir(QuerySet) if not name.startswith("_")}
    assert public - OTHERS == set(methods(READS | WRITES))


def result_of(manager: Any, name: str) -> Any:
    """A snapshot of what the method gives."""
    arguments = {**READS, **WRITES}
    args, kwargs = arguments[name if name in arguments else name[1:]](manager)

    async def awaited() -> Any:
        found = getattr(manager.all(), name)(*args, **kwargs)
        return [row async for row in found] if inspect.isasyncgen(found) else await found

    if name not in arguments:
        return snapshot(async_to_sync(awaited)())
    found = getattr(manager.all(), name)(*args, **kwargs)
    lazy = isinstance(found, models.QuerySet | models.query.RawQuerySet) or name == "iterator"
    return snapshot(list(found) if lazy else found)


@pytest.mark.parametrize("name", methods(READS))
def test_19_reads(name: str, sqlite: Any, queries: Queries) -> None:
    stock.fill()
    expected = result_of(plain(Product), name)
    for _ in range(2):
        assert result_of(cached(Product), name) == expected
    with queries() as captured:
        assert result_of(cached(Product), name) == expected
    uncached = name in LEFT_TO_THE_DATABASE or name[1:] in LEFT_TO_THE_DATABASE
    assert bool(captured) == uncached


@pytest.mark.parametrize("name", methods(WRITES))
def test_19_writes(name: str, sqlite: Any) -> None:
    stock.fill()

    def played(manager: Any) -> Any:
        with atomic():
            result = result_of(manager, name)
            rows = snapshot(list(Product.objects.values_list("pk", "name")))
            transaction.set_rollback(True)
        return result, rows

    before = snapshot(list(Product.objects.values_list("pk", "name")))
    expected = played(plain(Product))
    assert expected[1] != before
    assert played(cached(Product)) == expected
