"""Querysets that are found by their recipe: no query is built on a hit, and nothing is confused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db.models import Sum
from shop.models import Category, Product
from shop.reads import cached, outcome, plain


def rows(queryset: Any) -> list[Any]:
    return list(queryset.order_by("pk").values_list("pk", flat=True))


PAIRS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "lookups that share their SQL": (
        lambda M: rows(M(Product).filter(name__startswith="product")),
        lambda M: rows(M(Product).filter(name__endswith="product")),
    ),
    "contains and iexact": (
        lambda M: rows(M(Product).filter(name__icontains="product 1")),
        lambda M: rows(M(Product).filter(name__iexact="product 1")),
    ),
    "keywords in another order": (
        lambda M: rows(M(Product).filter(stock=10, id=1)),
        lambda M: rows(M(Product).filter(id=10, stock=1)),
    ),
    "defaults of aggregates": (
        lambda M: list(M(Category).annotate(n=Sum("product__stock", default=5)).values("n")),
        lambda M: list(M(Category).annotate(n=Sum("product__stock", default=7)).values("n")),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_two_shapes_with_one_sql_have_entries_of_their_own(shop: Any, name: str) -> None:
    for read in (*PAIRS[name], *PAIRS[name]):
        assert outcome(read, cached) == outcome(read, plain)
    for read in reversed(PAIRS[name]):
        assert outcome(read, cached) == outcome(read, plain)
