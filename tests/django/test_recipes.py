"""Querysets that are found by their recipe: no query is built on a hit, and nothing is confused.

Run again with ZOOCACHE_TEST_SEED=... to repeat a run, ZOOCACHE_TEST_EXAMPLES=... for a longer one.
"""

from __future__ import annotations

import copy
import datetime
import enum
import gc
import os
import pickle
import random
import sys
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections, models, transaction
from django.db.models import Avg, CharField, Count, Exists, F, Max, Min, OuterRef, Prefetch, Q, Sum
from django.db.models.functions import Lower
from django.db.models.query import QuerySet
from django.test.utils import override_settings
from django.utils import timezone
from django.utils.functional import SimpleLazyObject, lazystr
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from shop.built import built
from shop.models import Book, Brand, Category, Crate, Detail, Discount, Parcel, Product, Soft, Store
from shop.reads import cached, outcome, plain, snapshot
from shop.stock import PARCELS, UTC, name_of, rename

import zoocache
from zoocache import local
from zoocache.contrib.django import ZooCacheManager, lazy, plans, recipes, starting
from zoocache.contrib.django import steps as growing
from zoocache.contrib.django.connection import state_of
from zoocache.contrib.django.queryset import caching_class
from zoocache.contrib.django.transactions import Transactions
from zoocache.contrib.django.written import Written

SEED = int(os.environ.get("ZOOCACHE_TEST_SEED") or random.SystemRandom().randrange(2**32))
EXAMPLES = int(os.environ.get("ZOOCACHE_TEST_EXAMPLES") or 200)

Manager = Callable[[Any], Any]
P, C = Product, Category
MADE = datetime.datetime(2024, 2, 29, 23, 59, 59, 123456, tzinfo=UTC)


def rows(queryset: Any) -> list[Any]:
    return list(queryset.order_by("pk").values_list("pk", flat=True))


def insides(value: Any) -> Any:
    """A snapshot, with the order of all that is in instances and their states."""
    found = []

    def look(one: Any) -> None:
        if isinstance(one, models.Model):
            # Django may leave an empty dict of relations, or none.
            found.append((list(vars(one)), {*vars(one._state)} - {"fields_cache"}))
            for related in one._state.fields_cache.values():
                if isinstance(related, models.Model) and len(found) < 100:
                    look(related)
        elif isinstance(one, list | tuple):
            for part in one:
                look(part)

    look(value)
    return snapshot(value), found


def told(read: Callable[[Manager], Any], manager: Manager) -> Any:
    try:
        return insides(read(manager))
    except Exception as error:
        return type(error), str(error)


# No query is built, no SQL compiled, and no statement run, from the third time on: at the first
# time the shape is learnt, at the second one the plan may be.
FAST: dict[str, Callable[[Manager], Any]] = {
    "all": lambda M: list(M(P).order_by("pk")),
    "get pk": lambda M: M(P).get(pk=2),
    "get id": lambda M: M(P).get(id=2),
    "get text pk": lambda M: M(Parcel).get(pk=PARCELS[1]),
    "get by name": lambda M: M(P).get(name="product 3"),
    "get and filter": lambda M: M(P).filter(active=True).get(pk=1),
    "get absent": lambda M: M(P).get(pk=999),
    "get of multi-table child": lambda M: M(Book).get(name="book 1"),
    "get of proxy": lambda M: M(Discount).get(pk=1),
    "filter first": lambda M: M(P).filter(pk=2).first(),
    "first": lambda M: M(P).order_by("name").first(),
    "first of the default order": lambda M: M(C).first(),
    "first of no order": lambda M: [M(m).order_by().filter(pk=1).first() for m in (P, C)],
    "first of none": lambda M: M(P).filter(name="nobody").first(),
    "true": lambda M: list(M(P).filter(active=True).order_by("pk")),
    "false": lambda M: list(M(P).filter(active=False).order_by("pk")),
    "exclude": lambda M: list(M(P).exclude(active=True).order_by("-pk")),
    "null": lambda M: list(M(P).filter(stock=None).order_by("pk")),
    "is null": lambda M: list(M(P).filter(stock__isnull=True).order_by("pk")),
    "is not null": lambda M: list(M(P).filter(stock__isnull=False).order_by("pk")),
    "foreign key": lambda M: list(M(P).filter(category=1).order_by("pk")),
    "foreign key by id": lambda M: list(M(P).filter(category_id=1).order_by("pk")),
    "foreign key by instance": lambda M: list(M(P).filter(category=C(pk=1)).order_by("pk")),
    "foreign key to text": lambda M: list(M(P).filter(brand="ACME").order_by("pk")),
    "across": lambda M: list(M(P).filter(category__name="a").order_by("pk")),
    "many to many": lambda M: list(M(P).filter(tags__name="red").order_by("pk").distinct()),
    "many to many by key": lambda M: rows(M(P).filter(tags=2)),
    "exclude many": lambda M: rows(M(P).exclude(tags__name="red")),
    "in": lambda M: list(M(P).filter(pk__in=[3, 1, 3]).order_by("pk")),
    "in a tuple": lambda M: list(M(P).filter(name__in=("product 1", "x")).order_by("pk")),
    "in uuids": lambda M: list(M(Parcel).filter(pk__in=PARCELS).order_by("pk")),
    "range": lambda M: list(M(P).filter(stock__range=(10, 30)).order_by("pk")),
    "greater": lambda M: list(M(P).filter(stock__gt=10, stock__lte=50).order_by("-stock")),
    "decimal": lambda M: list(M(P).filter(price__gte=Decimal("0.30")).order_by("pk")),
    "date": lambda M: list(M(P).filter(day=datetime.date(2024, 1, 3))),
    "datetime": lambda M: rows(M(P).filter(made__lt=MADE + datetime.timedelta(hours=20))),
    "duration": lambda M: rows(
        M(Detail).filter(length__lt=datetime.timedelta(0)),
    ),
    "float": lambda M: rows(M(Detail).filter(weight=0.1)),
    "texts": lambda M: [
        rows(M(P).filter(**{f"name__{lookup}": "product 1"}))
        for lookup in ("exact", "iexact", "contains", "icontains", "startswith", "endswith")
    ],
    "q": lambda M: list(M(P).filter(Q(stock=10) | ~Q(active=True), pk__lt=7).order_by("pk")),
    "q in q": lambda M: rows(M(P).filter(~(Q(stock=10) & Q(Q(pk=1) | Q(name="x"))))),
    "slice": lambda M: list(M(P).order_by("pk")[2:5]),
    "slice of a slice": lambda M: list(M(P).order_by("pk")[2:][1:3]),
    "values": lambda M: list(M(P).order_by("pk").values("pk", "name", "data", "made")),
    "values of all": lambda M: list(M(P).order_by("pk").values()),
    "values across": lambda M: list(M(P).order_by("pk").values("category__name", "price")),
    "values list": lambda M: list(M(P).order_by("pk").values_list("price", "day", "data")),
    "flat": lambda M: list(M(P).order_by("pk").values_list("price", flat=True)),
    "flat json": lambda M: list(M(P).order_by("pk").values_list("data", flat=True)),
    "named": lambda M: list(M(P).order_by("pk").values_list("pk", "name", named=True)),
    "values and aggregate": lambda M: list(
        M(C).annotate(n=Count("product")).order_by("pk").values_list("pk", "n")
    ),
    "annotate": lambda M: list(
        M(C).annotate(n=Count("product"), most=Max("product__price")).order_by("pk")
    ),
    "aggregates": lambda M: list(
        M(C)
        .annotate(Avg("product__stock"), Min("product__day"), s=Sum("product__price", default=0))
        .order_by("pk")
    ),
    "select related": lambda M: list(M(P).select_related("category", "store").order_by("pk")),
    "select related deep": lambda M: list(
        M(P).select_related("category__parent", "related__brand").order_by("pk")
    ),
    "select related reverse": lambda M: list(M(P).select_related("detail").order_by("pk")),
    "select related both ways": lambda M: list(M(Detail).select_related("product").order_by("pk")),
    "only": lambda M: list(M(P).only("name", "category").order_by("pk")),
    "only across": lambda M: list(
        M(P).select_related("category").only("name", "category__name").order_by("pk")
    ),
    "defer": lambda M: list(M(P).defer("data", "name").order_by("pk")),
    "multi-table": lambda M: list(M(Book).filter(author="x")),
    "proxy": lambda M: list(M(Discount).filter(active=True).order_by("pk")),
    "own queryset": lambda M: list(M(Soft).here()),
    "reverse": lambda M: list(M(P).order_by("name").reverse()),
    "last": lambda M: M(P).order_by("name").last(),
    "last of the default order": lambda M: M(C).last(),
    "last of no order": lambda M: [M(m).order_by().filter(pk__lt=3).last() for m in (P, C)],
    "last of none": lambda M: M(P).filter(name="nobody").last(),
    "latest": lambda M: M(P).filter(active=True).latest("made"),
    "latest by two": lambda M: M(P).order_by("name").latest("active", "-stock"),
    "latest of values": lambda M: M(P).values("pk", "name").latest("pk"),
    "earliest": lambda M: M(P).earliest("made"),
    "earliest of none": lambda M: M(P).filter(name="nobody").earliest("made"),
    "index": lambda M: M(P).order_by("pk")[0],
    "index of a slice": lambda M: M(P).order_by("pk")[2:][0],
    "index of none": lambda M: M(P).filter(name="nobody")[0],
    "in bulk": lambda M: M(P).in_bulk([3, 1, 3, 999]),
    "in bulk of a set": lambda M: M(P).order_by("-pk").in_bulk({1, 2}),
    "in bulk of all": lambda M: M(P).filter(active=True).in_bulk(),
    "in bulk by a field": lambda M: M(Parcel).in_bulk(PARCELS[:2], field_name="id"),
    "contains": lambda M: M(P).filter(pk__lt=3).contains(P(pk=2)),
    "contains not": lambda M: M(P).filter(pk__lt=3).contains(P(pk=3)),
    "contains another model's": lambda M: M(P).filter(pk__lt=3).contains(C(pk=1)),
    "count": lambda M: M(P).filter(active=True).count(),
    "count of a slice": lambda M: M(P).order_by("pk")[2:7].count(),
    "count of distinct": lambda M: M(P).filter(tags__name__contains="e").distinct().count(),
    "aggregate": lambda M: (
        M(P)
        .filter(active=True)
        .aggregate(Sum("stock"), Avg("price"), least=Min("made"), most=Max("day"), n=Count("pk"))
    ),
    "aggregate of none": lambda M: M(P).filter(name="nobody").aggregate(Sum("price"), Count("pk")),
    "aggregate of a slice": lambda M: M(P).order_by("pk")[2:5].aggregate(Sum("price")),
    "aggregate of distinct": lambda M: (
        M(P).values("category").distinct().aggregate(Count("category"))
    ),
    "aggregate of aggregates": lambda M: M(C).annotate(n=Count("product")).aggregate(Max("n")),
    "aggregate across": lambda M: M(P).aggregate(Sum("category__rank"), s=Sum("stock", default=7)),
    "aggregate of durations": lambda M: M(Detail).aggregate(Sum("length"), Avg("weight")),
    "exists": lambda M: M(P).filter(name="product 2").exists(),
    "exists not": lambda M: M(P).filter(name="nobody").exists(),
    "zoned": lambda M: _zoned(lambda: list(M(P).filter(made__gt=MADE).order_by("pk"))),
    "to a class of its own": lambda M: list(M(Crate).order_by("pk")),
}


def _zoned(read: Callable[[], Any]) -> Any:
    with timezone.override(ZoneInfo("Asia/Tokyo")):
        return read()


# Django's from the call on: each of them builds a query each time.
class Number(int):
    pass


class Kind(enum.IntEnum):
    ONE = 1


class Text(models.TextChoices):
    ONE = "product 1"


SLOW: dict[str, Callable[[Manager], Any]] = {
    "f": lambda M: rows(M(P).filter(stock=F("stock"))),
    "exists": lambda M: rows(M(P).filter(Exists(C.objects.filter(pk=OuterRef("category"))))),
    "subquery": lambda M: rows(M(P).filter(category__in=M(C).filter(name="a"))),
    "subclass of int": lambda M: rows(M(P).filter(pk=Number(1))),
    "enum": lambda M: rows(M(P).filter(pk=Kind.ONE)),
    "choice": lambda M: rows(M(P).filter(name=Text.ONE)),
    "lazy text": lambda M: rows(M(P).filter(name=lazystr("product 1"))),
    "lazy object": lambda M: rows(M(P).filter(category=SimpleLazyObject(lambda: C(pk=1)))),
    "text for a number": lambda M: rows(M(P).filter(pk="1")),
    "number for a text": lambda M: rows(M(P).filter(name=1)),
    "bool for a number": lambda M: rows(M(P).filter(pk=True)),
    "number for a bool": lambda M: rows(M(P).filter(active=1)),
    "float for a number": lambda M: rows(M(P).filter(pk=1.0)),
    "a generator": lambda M: rows(M(P).filter(pk__in=(n for n in (1, 2)))),
    "a set": lambda M: rows(M(P).filter(pk__in={1, 2})),
    "a dict's keys": lambda M: rows(M(P).filter(pk__in={1: 1, 2: 2}.keys())),
    "an empty list": lambda M: rows(M(P).filter(pk__in=[])),
    "a mixed list": lambda M: rows(M(P).filter(pk__in=[1, None, 2])),
    "a list of instances": lambda M: rows(M(P).filter(category__in=[C(pk=1)])),
    "regex": lambda M: rows(M(P).filter(name__regex="1$")),
    "date of a datetime": lambda M: rows(M(P).filter(made__date=datetime.date(2024, 3, 1))),
    "year": lambda M: rows(M(P).filter(made__year=2024)),
    "json": lambda M: rows(M(P).filter(data__n=1)),
    "transform": lambda M: rows(M(P).filter(day__month__gt=0)),
    "ordering by an expression": lambda M: list(M(P).order_by(Lower("name").desc(), "pk")),
    "annotation": lambda M: list(M(P).annotate(x=F("stock")).filter(x=10)),
    "aggregate of an expression": lambda M: list(M(C).annotate(n=Sum(F("rank") + 1)).values()),
    "aggregate with a filter": lambda M: list(
        M(C).annotate(n=Count("product", filter=Q(product__active=True))).order_by("pk")
    ),
    "filter of an aggregate": lambda M: list(M(C).annotate(n=Count("product")).filter(n__gt=1)),
    "prefetch object": lambda M: list(
        M(C).prefetch_related(Prefetch("product_set", M(P).order_by("pk"))).order_by("pk")
    ),
    "union": lambda M: list(M(P).filter(pk=1).union(M(P).filter(pk=2)).order_by("id")),
    "or": lambda M: rows(M(P).filter(pk=1) | M(P).filter(pk=2)),
    "dates": lambda M: list(M(P).dates("day", "month")),
    "alias": lambda M: list(M(P).alias(n=F("stock")).order_by("n", "pk")),
    "index": lambda M: M(P).order_by("pk")[3],
    "in bulk of nothing": lambda M: M(P).in_bulk([]),
    "in bulk of many": lambda M: M(P).in_bulk([*range(201)]),
    "in bulk of keys": lambda M: M(P).in_bulk({1: 1}.keys()),
    "latest by an expression": lambda M: M(P).latest(F("made").asc(), "pk"),
    "contains a uuid": lambda M: M(Parcel).contains(Parcel(pk=PARCELS[1])),
    "step": lambda M: list(M(P).order_by("pk")[1:6:2]),
    "aggregate of f": lambda M: M(P).aggregate(n=Sum(F("stock") + 1)),
    "aggregate with filter": lambda M: M(P).aggregate(n=Count("pk", filter=Q(active=True))),
    "all related": lambda M: _unwarned(lambda: list(M(Crate).select_related().order_by("pk"))),
    "flat without a name": lambda M: _unwarned(lambda: list(M(C).values_list(flat=True))),
    "related manager": lambda M: list(C(pk=1).product_set(manager=M(P).name).order_by("pk")),
    "none": lambda M: list(M(P).none()),
    "no cache": lambda M: list(M(P).filter(pk=1)) + list(M(P).all()[:1].values("pk")),
    "for update": lambda M: _for_update(M),
    "extra": lambda M: list(M(P).extra(where=["stock > 10"]).order_by("pk")),
}


def _unwarned(read: Callable[[], Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read()


def _for_update(M: Manager) -> Any:
    with transaction.atomic(using=M(P).db):
        return list(M(P).select_for_update().filter(pk=1))


def test_what_recipes_find_is_what_django_makes_and_no_query_is_built_for_it(
    shop: Any, queries: Callable[..., Any], evidence: Callable[..., None]
) -> None:
    wrong = []
    for name, read in FAST.items():
        expected = told(read, plain)
        found = [told(read, cached) for _ in range(2)]
        with queries() as captured, built() as seen:
            found.append(told(read, cached))
            local.close_level()  # from the segment, as another process would
            found.append(told(read, cached))
        if found != [expected] * 4:
            wrong.append((name, expected, found))
        if seen or len(captured):
            wrong.append((name, seen, [query["sql"] for query in captured]))
    assert not wrong, "\n\n".join(map(str, wrong))
    evidence(f"shapes found by their recipe on {shop.vendor}", shapes=len(FAST))


def test_everything_else_is_django_s(shop: Any, evidence: Callable[..., None]) -> None:
    wrong = []
    for name, read in SLOW.items():
        expected = told(read, plain)
        for _ in range(3):
            with built() as seen:
                found = told(read, cached)
            if found != expected:
                wrong.append((name, expected, found))
        if not seen and name != "no cache":
            wrong.append((name, "was found by a recipe"))
    assert not wrong, "\n\n".join(map(str, wrong))
    evidence(f"shapes that are Django's on {shop.vendor}", shapes=len(SLOW))


# Reads that are easily taken for each other: one after the other, none may get another's rows.
ALIKE: dict[str, list[Callable[[Manager], Any]]] = {
    "lookups that share their SQL": [
        lambda M, lookup=lookup: rows(M(P).filter(**{f"name__{lookup}": "product 1"}))
        for lookup in ("contains", "startswith", "endswith", "icontains", "iexact", "exact")
    ]
    + [lambda M: rows(M(P).filter(name__startswith="1")), lambda M: rows(M(P).filter(name="1"))],
    "keywords in another order": [
        lambda M: rows(M(P).filter(stock=10, id=1)),
        lambda M: rows(M(P).filter(id=10, stock=1)),
        lambda M: rows(M(P).filter(id=1, stock=10)),
        lambda M: rows(M(P).filter(Q(stock=10), id=1)),
        lambda M: rows(M(P).filter(Q(stock=1), id=10)),
        lambda M: rows(M(P).filter(stock=10).filter(id=1)),
    ],
    "defaults of aggregates": [
        lambda M, default=default: list(
            M(C).annotate(n=Avg("product__weight_", default=default)).values("n")
            if default is None
            else M(C).annotate(n=Avg("product__stock", default=default)).order_by("pk").values("n")
        )
        for default in (5, 7, 1, 1.0, 0, 0.0)
    ],
    "aggregates": [
        lambda M, name=name, kind=kind: M(P).aggregate(**{name: kind("stock")})
        for name in ("a", "b")
        for kind in (Sum, Max, Min, Avg, Count)
    ]
    + [
        lambda M, options=options: M(P).filter(pk__gt=99).aggregate(n=Sum("stock", **options))
        for options in ({}, {"default": 1}, {"default": 1.0}, {"distinct": True}, {"default": 0})
    ],
    "aggregates of numbers": [
        lambda M, value=value: M(P).aggregate(n=Max(value))
        for value in (1, True, 1.0, 0, False, 0.0)
    ],
    "numbers": [
        lambda M, value=value: rows(M(P).filter(stock__gte=value))
        for value in (1, 10, True, 1.0, Decimal(10), "10", 0, False, -1)
    ],
    "decimals": [
        lambda M, value=value: rows(M(P).filter(price__lte=value))
        for value in (Decimal("0.3"), Decimal("0.30"), Decimal("3E-1"), 0.3, "0.3", 1, True, 0)
    ],
    "floats": [
        lambda M, value=value: rows(M(Detail).filter(weight__gte=value))
        for value in (0.0, -0.0, 0, 0.1, "0.1", Decimal("0.1"), 5e-324)
    ],
    "fold": [
        lambda M, fold=fold, zone=zone: rows(
            M(P).filter(
                made__lt=datetime.datetime(2024, 10, 27, 2, 30, fold=fold, tzinfo=ZoneInfo(zone))
            )
        )
        for fold in (0, 1)
        for zone in ("Europe/Paris", "Europe/London")
    ],
    "lists": [
        lambda M, pks=pks: rows(M(P).filter(pk__in=pks))
        for pks in ([1, 2], [2, 1], (1, 2), [1, 2, 2], [1, 1, 2], [1], [3], [1, 3], [True, 2])
    ],
    "lists and ranges": [
        lambda M: rows(M(P).filter(pk__in=[1, 4])),
        lambda M: rows(M(P).filter(pk__range=[1, 4])),
        lambda M: rows(M(P).filter(pk__range=(4, 1))),
    ],
    "results of one SQL": [
        lambda M: list(M(P).order_by("pk").values("name")),
        lambda M: list(M(P).order_by("pk").values_list("name")),
        lambda M: list(M(P).order_by("pk").values_list("name", flat=True)),
        lambda M: list(M(P).order_by("pk").values_list("name", named=True)),
        lambda M: M(P).order_by("pk").filter(pk=1).exists(),
        lambda M: M(P).order_by("pk").filter(pk=1).count(),
        lambda M: M(P).order_by("pk").filter(pk=1).first(),
    ],
    "models of one table": [
        lambda M: list(M(P).filter(pk=1)),
        lambda M: list(M(Discount).filter(pk=1)),
    ],
    "texts and bytes": [
        lambda M, name=name: rows(M(P).filter(name=name))
        for name in ("product 1", b"product 1", "\ud800", "", "PRODUCT 1", "product\u0000")
    ],
    "slices": [
        lambda M, at=at: list(M(P).order_by("pk").values_list("pk")[at])
        for at in (slice(0, 2), slice(2), slice(2, None), slice(None), slice(2, 2), slice(5, 3))
    ],
    "nothing and something": [
        lambda M: rows(M(P).filter(category=None)),
        lambda M: rows(M(P).filter(category__isnull=True)),
        lambda M: rows(M(P).filter(category__isnull=False)),
        lambda M: rows(M(P).exclude(category=None)),
    ],
    "keys beyond all numbers": [
        lambda M, key=key: rows(M(P).filter(pk__lt=key)) for key in (5, 2**70, -(2**70), 3)
    ],
    "time to live": [
        lambda M: list(M(P).filter(pk=1)),
        lambda M: (
            list(M(P).filter(pk=1).zoocache(ttl=60)) if M is cached else list(M(P).filter(pk=1))
        ),
    ],
}


def test_what_is_alike_is_not_confused(db: Any, evidence: Callable[..., None]) -> None:
    from shop import stock

    stock.fill()
    wrong = []
    for name, reads in ALIKE.items():
        expected = [outcome(read, plain) for read in reads]
        for order in (1, 1, -1):
            found = [outcome(read, cached) for read in reads[::order]][::order]
            wrong += [
                (name, number, one, other)
                for number, (one, other) in enumerate(zip(expected, found, strict=True))
                if one != other
            ]
    assert not wrong, "\n\n".join(map(str, wrong))
    evidence(f"reads that are alike on {db.vendor}", reads=sum(map(len, ALIKE.values())))


ZONED: dict[str, Callable[[Any], Any]] = {
    "values": lambda m: list(m.values("made__date").order_by("pk")),
    "values_list": lambda m: list(m.values_list("made__hour", flat=True).order_by("pk")),
    "order_by": lambda m: [one.pk for one in m.order_by("made__hour", "pk")[:2]],
    "annotate": lambda m: list(m.annotate(n=Max("made__date")).order_by("pk").values_list("n")),
    "aggregate": lambda m: m.aggregate(Max("made__date"), n=Count("made__hour", distinct=True)),
    "count": lambda m: m.values("made__date").distinct().count(),
    "latest": lambda m: m.latest("made__hour").pk,
    "earliest": lambda m: m.earliest("made__hour").pk,
    "first": lambda m: m.order_by("made__hour").first().pk,
    "last": lambda m: m.order_by("made__hour").last().pk,
    "Meta": lambda m: m.first().pk,
}


def test_a_time_zone_that_decides_is_the_caller_s(db: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SQL's parameters tell of it, or on Oracle the SQL itself, and no recipe does."""
    monkeypatch.setattr(recipes, "roots", {})
    monkeypatch.setattr(Product._meta, "ordering", ["made__hour", "pk"])
    for hour in (1, 7, 13, 22):
        Product.objects.create(made=datetime.datetime(2024, 5, 17, hour, tzinfo=UTC))
    wrong = []
    for name, read in ZONED.items():
        for zone in (UTC, ZoneInfo("Asia/Tokyo"), ZoneInfo("America/Lima")) * 2:
            with timezone.override(zone):
                found, expected = read(Product.cached), read(Product.objects)
            if found != expected:
                wrong.append((name, zone, found, expected))
    assert not wrong


@pytest.mark.parametrize("what", ["nothing", "rows", "order", "expression"])
def test_what_is_prefetched_may_be_another_thing_each_time(
    sqlite: Any, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """It is kept as a whole only where the managers and the order say the same each time."""
    Category.objects.create(pk=1)
    for number in range(2, 6):
        Category.objects.create(pk=number, parent_id=1)
    thawed: list[Any] = []
    thaw, most = plans.graphs.thaw, [0]
    monkeypatch.setattr(plans.graphs, "thaw", lambda graph: thawed.append(graph) or thaw(graph))
    monkeypatch.setattr(recipes, "roots", {})

    def get_queryset(manager: Any) -> Any:
        if manager._caching:
            return known(manager)
        found = QuerySet(manager.model, using=manager._db)
        return found.filter(pk__lte=most[0]) if what == "rows" else found.order_by("-pk")

    known = ZooCacheManager.get_queryset
    if what in ("rows", "order"):
        monkeypatch.setattr(ZooCacheManager, "get_queryset", get_queryset)
    elif what == "expression":
        monkeypatch.setattr(Category._meta, "ordering", [Lower("name"), "pk"])
    for most[0] in (3, 3, 3, 2, 5, 5, 5, 4):
        (found,) = Category.cached.filter(pk=1).prefetch_related("below")
        pks = [one.pk for one in Category._default_manager.filter(parent=1)]
        assert [one.pk for one in found.below.all()] == pks
    assert bool(thawed) is (what == "nothing")


def test_equal_values_have_keys_of_their_own() -> None:
    paris = ZoneInfo("Europe/Paris")
    values = [
        1, True, 1.0, "1", b"1", None, 0, False, 0.0, -0.0, "", b"", (1,), (1.0,), (True,),
        ((1,),), ("1",), 2**64, -1, "\ud800", float(2**64), (1, 2), (2, 1), ("a", "b"), ("ab",),
        ("a", ("b",)),
    ]  # fmt: skip
    keys = [recipes.key_of((value,)) for value in values]
    assert len(set(keys)) == len(keys)
    assert keys == [recipes.key_of((copy.deepcopy(value),)) for value in values]
    for pair in [
        (Decimal("1.0"), Decimal("1.00")),
        (Decimal("0"), Decimal("-0")),
        (datetime.datetime(2024, 10, 27, 2, 30, tzinfo=paris, fold=fold) for fold in (0, 1)),
        (datetime.timedelta(1), datetime.timedelta(seconds=1)),
        (uuid.UUID(int=1), uuid.UUID(int=2)),
    ]:
        one, other = pair
        assert recipes.key_of((one,)) != recipes.key_of((other,))
        assert recipes.key_of((one, 1)) != recipes.key_of((one, True))


# What is wrong, and whether Django says so at the call or when the queryset is evaluated.
ERRORS: dict[str, Callable[[Any], Any]] = {
    "unknown field": lambda m: m.filter(nobody=1),
    "unknown lookup": lambda m: m.filter(name__unknown=1),
    "unknown path": lambda m: m.filter(category__nobody=1),
    "text for a number": lambda m: m.filter(pk="abc"),
    "no number": lambda m: m.filter(price=Decimal("NaN")),
    "infinite": lambda m: m.filter(price=Decimal("Infinity")),
    "a number too large for a float": lambda m: m.filter(detail__weight=10**400),
    "a float that is none": lambda m: m.filter(pk=float("nan")),
    "an unsaved instance": lambda m: m.filter(category=Category()),
    "an instance of another model": lambda m: m.filter(category=Product(pk=1)),
    "none in a range": lambda m: m.filter(pk__gt=None),
    "positional": lambda m: m.filter(5),
    "a q with half a child": lambda m: m.filter(Q(("name",))),
    "order by nobody": lambda m: m.order_by("nobody"),
    "order by nobody across": lambda m: m.order_by("category__nobody"),
    "values of nobody": lambda m: m.values("nobody"),
    "flat of two": lambda m: m.values_list("pk", "name", flat=True),
    "flat and named": lambda m: m.values_list("pk", flat=True, named=True),
    "annotation over a field": lambda m: m.annotate(name=Count("pk")),
    "aggregate of nobody": lambda m: m.annotate(n=Count("nobody")),
    "default of a count": lambda m: m.annotate(n=Count("pk", default=1)),
    "select related to nobody": lambda m: m.select_related("nobody"),
    "select related after values": lambda m: m.values("pk").select_related("category"),
    "prefetch nobody": lambda m: m.prefetch_related("nobody"),
    "only after values": lambda m: m.values("pk").only("name"),
    "only pieces of a relation": lambda m: m.only("name__x"),
    "filter of a slice": lambda m: m.all()[:2].filter(pk=1),
    "order of a slice": lambda m: m.all()[:2].order_by("pk"),
    "distinct of a slice": lambda m: m.all()[:2].distinct(),
    "reverse of a slice": lambda m: m.all()[:2].reverse(),
    "negative slice": lambda m: m.all()[-1:],
    "negative index": lambda m: m.all()[-1],
    "latest of a slice": lambda m: m.all()[:2].latest("pk"),
    "earliest of a slice": lambda m: m.all()[:2].earliest("pk"),
    "last of a slice": lambda m: m.all()[:2].last(),
    "latest of nothing that says so": lambda m: m.latest(),
    "latest by nobody": lambda m: m.latest("nobody"),
    "aggregate of no field": lambda m: m.aggregate(Sum("nobody")),
    "aggregate of no expression": lambda m: m.aggregate(5),
    "aggregate without a name": lambda m: m.aggregate(Sum(F("stock") + 1)),
    "aggregate over a field": lambda m: m.annotate(n=Count("pk")).aggregate(n=Sum("n")),
    "in bulk of a slice": lambda m: m.all()[:2].in_bulk([1]),
    "in bulk by nobody": lambda m: m.in_bulk([1], field_name="nobody"),
    "in bulk by what is not unique": lambda m: m.in_bulk([1], field_name="stock"),
    "in bulk of a number": lambda m: m.in_bulk(5),
    "in bulk of texts": lambda m: m.in_bulk(["a"]),
    "contains after values": lambda m: m.values("pk").contains(Product(pk=1)),
    "contains what is not saved": lambda m: m.contains(Product()),
    "contains a number": lambda m: m.contains(5),
    "contains of a slice": lambda m: m.all()[:2].contains(Product(pk=1)),
    "text slice": lambda m: m.all()["a":],
    "distinct on a name": lambda m: m.distinct("name"),
    "no database": lambda m: m.using("nobody"),
    "ttl": lambda m: m.filter(name__nobody=1),
    "several": lambda m: m.filter(active=True).order_by("pk")[:2],
}


def place(make: Callable[[Any], Any], manager: Any, ask: Callable[[Any], Any]) -> Any:
    """Where something is said to be wrong, and what."""
    step = "call"
    try:
        queryset = make(manager)
        step = "evaluation"
        return step, snapshot(ask(queryset))
    except Exception as error:
        return step, type(error), str(error)


def test_errors_are_raised_where_django_raises_them(shop: Any) -> None:
    wrong = []
    asks: list[Callable[[Any], Any]] = [
        list, lambda q: q.count(), lambda q: q.exists(), lambda q: q.get(), lambda q: q.first(),
        lambda q: q[:1].get(pk=1), lambda q: q.filter(pk=1).get(), len, bool,
    ]  # fmt: skip
    for name, make in ERRORS.items():
        for number, ask in enumerate(asks):
            expected = place(make, Product.objects, ask)
            found = [place(make, Product.cached, ask) for _ in range(3)]
            if found != [expected] * 3:
                wrong.append((name, number, expected, found))
    assert not wrong, "\n\n".join(map(str, wrong))


def test_a_datetime_without_a_zone_warns_each_time(sqlite: Any) -> None:
    naive = datetime.datetime(2024, 1, 1)
    for _ in range(3):
        with pytest.warns(RuntimeWarning, match="naive"):
            Product.cached.filter(made=naive)


def test_what_happens_to_arguments_after_the_call_does_not_count(sqlite: Any) -> None:
    for _ in range(3):
        for manager in (Product.objects, Product.cached):
            pks, condition = [1, 2], Q(pk=1)
            by_list, by_q = manager.filter(pk__in=pks), manager.filter(condition)
            pks.append(3)
            pks[0] = 9
            condition.children.append(("pk", 2))
            condition.negated = True
            assert str(by_list.query) == str(Product.objects.filter(pk__in=[1, 2]).query)
            assert str(by_q.query) == str(Product.objects.filter(pk=1).query)
            once = (pk for pk in (1, 2))
            by_generator = manager.filter(pk__in=once)
            assert list(once) == []
            assert str(by_generator.query) == str(Product.objects.filter(pk__in=[1, 2]).query)
            category = Category(pk=1)
            by_instance = manager.filter(category=category)
            category.pk = 2
            assert str(by_instance.query) == str(Product.objects.filter(category=1).query)


class TestQuerysets:
    """What has a recipe is a queryset like any other."""

    @pytest.fixture(autouse=True)
    def rows(self, sqlite: Any) -> None:
        for number in range(1, 5):
            Product.objects.create(name=f"p{number}", stock=number, active=number % 2 == 0)

    def make(self) -> Any:
        """One with a recipe that is known."""
        for _ in range(2):
            queryset = Product.cached.filter(stock__gt=1).order_by("pk")
            list(queryset)
        queryset = Product.cached.filter(stock__gt=1).order_by("pk")
        assert queryset._recipe is not None
        return queryset

    def test_it_is_lazy(self, queries: Any) -> None:
        for _ in range(2):
            with queries(0), built() as seen:
                Product.cached.filter(stock__gt=99).exclude(pk=1).select_related("store")[:3]
        assert seen == []

    def test_it_keeps_its_result(self, queries: Any) -> None:
        queryset = self.make()
        first = list(queryset)
        assert [a is b for a, b in zip(first, queryset, strict=True)] == [True] * 3
        first[0].name = "changed"
        assert queryset[0].name == "changed"
        assert self.make()[0].name == "p2"
        assert queryset.count() == len(queryset) == 3
        assert queryset.exists()
        assert queryset.all()._result_cache is None

    def test_callers_share_nothing_that_can_be_changed(self) -> None:
        Product.objects.update(data={"list": [1]})
        reads: list[Callable[[], Any]] = [
            lambda: Product.cached.get(name="p1").data,
            lambda: Product.cached.filter(name="p1").values_list("data", flat=True)[:1][:1].get(),
            lambda: Product.cached.filter(name="p1").values("data").first()["data"],
            lambda: Product.cached.filter(name="p1").values_list("data").first()[0],
        ]
        for read in reads:
            for _ in range(4):
                data = read()
                assert data == {"list": [1]}
                data["list"].append(2)
        for _ in range(4):
            values = Product.cached.filter(name="p1").values("name").first()
            assert values == {"name": "p1"}
            values["name"] = 5
            listed = list(Product.cached.filter(name="p1").values_list("name", flat=True))
            assert listed == ["p1"]
            listed.append(1)

    def test_copies_and_pickles(self) -> None:
        for way in [copy.copy, copy.deepcopy, lambda q: pickle.loads(pickle.dumps(q))]:
            queryset = self.make()
            other = way(queryset)
            assert snapshot(list(other)) == snapshot(list(queryset))
            assert type(other) is type(queryset)
            assert str(other.query) == str(queryset.query)
        query = pickle.loads(pickle.dumps(self.make().query))
        again = Product.cached.all()
        again.query = query
        assert [row.name for row in again] == ["p2", "p3", "p4"]

    def test_whoever_asks_for_its_query_may_change_it(self) -> None:
        queryset, other = self.make(), self.make()
        queryset.query.add_q(Q(stock=3))
        assert [row.stock for row in queryset] == [3]
        assert [row.stock for row in queryset.filter(active=False)] == [3]
        assert [row.stock for row in other] == [2, 3, 4]
        assert str(other.query) == str(Product.objects.filter(stock__gt=1).order_by("pk").query)

    def test_it_can_be_combined_and_asked_for(self) -> None:
        queryset = self.make()
        assert queryset.ordered
        assert not Product.cached.filter(stock__gt=1).ordered
        assert Category.cached.all().ordered
        assert not Category.cached.order_by().ordered
        assert queryset.db == "default"
        assert queryset.using("other").db == "other"
        assert queryset.model is Product
        assert (queryset & Product.cached.filter(stock=2)).count() == 1
        assert Product.objects.filter(pk__in=queryset).count() == 3
        assert repr(queryset) == repr(Product.objects.filter(stock__gt=1).order_by("pk"))
        assert isinstance(queryset, QuerySet)
        assert queryset.values("name")._fields == ("name",)
        assert (
            queryset.values("name")._iterable_class
            is QuerySet.values(queryset, "name")._iterable_class
        )
        assert queryset.iterator().__next__().name == "p2"

    def test_writes_go_to_the_rows_of_the_recipe(self) -> None:
        assert self.make().update(stock=7) == 3
        assert [row.stock for row in self.make()] == [7, 7, 7]
        assert self.make().filter(name="p2").delete()[0] == 1
        assert [row.name for row in self.make()] == ["p3", "p4"]
        assert self.make().get_or_create(name="p3", defaults={"stock": 5})[1] is False

    def test_hints_are_each_queryset_s_own(self) -> None:
        base = self.make()
        one, other = base.filter(active=True), base.filter(active=True)
        one._add_hints(instance=5)
        assert base._hints == other._hints == {}
        assert one.all()._hints == {"instance": 5}

    def test_names_of_the_user_s_are_not_taken_for_ours(self) -> None:
        """A queryset class that has a method of the same name is Django's."""

        class Named(QuerySet):
            def _one(self, name: str) -> Any:
                return self.filter(name=name)

            def _answer(self) -> int:
                return 42

        class Setting(QuerySet):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                self.tenant = 5

        for own in (Named, Setting):
            kind = caching_class(own)
            for _ in range(3):
                queryset = starting.start(kind, Product, None, {}, None)
                assert queryset._recipe is None
                assert queryset.order_by("pk").first().name == "p1"
                assert queryset.count() == 4

    def test_a_manager_s_own_filter_is_asked_each_time(self) -> None:
        tenant = {"stock": 1}

        class OfTenant(ZooCacheManager):
            def get_queryset(self) -> Any:
                return super().get_queryset().filter(**tenant)

        manager = OfTenant()
        manager.model, manager.name = Product, "cached"
        manager.__class__ = type("Caching", (OfTenant,), {"_caching": True})
        for stock in (1, 2, 1, 2, 3):
            tenant["stock"] = stock
            assert [row.stock for row in manager.all()] == [stock]
            assert manager.get().stock == stock
            assert manager.count() == 1

    def test_methods_of_the_user_s_are_asked_each_time(self) -> None:
        most, order = [1], [""]

        class Filtering(QuerySet):
            def filter(self, *args: Any, **kwargs: Any) -> Any:
                return super().filter(*args, **kwargs, pk__lte=most[0])

        class Ordering(QuerySet):
            def order_by(self, *names: Any) -> Any:
                return super().order_by(f"{order[0]}pk")

            reverse = order_by

        def of(own: Any) -> Any:
            return starting.start(caching_class(own), Product, None, {}, None)

        for most[0], order[0] in ((2, ""), (2, ""), (2, ""), (3, "-"), (4, "")):
            assert sorted(of(Filtering).in_bulk([1, 2, 3, 4])) == [*range(1, most[0] + 1)]
            assert of(Filtering).contains(Product(pk=3)) is (most[0] > 2)
            assert of(Ordering).first().pk == of(Ordering).last().pk == (4 if order[0] else 1)

    def test_methods_of_the_user_s_may_evaluate(self) -> None:
        class Counting(QuerySet):
            def reverse(self) -> Any:
                assert len(self)
                return super().reverse()

        for _ in range(3):
            queryset = starting.start(caching_class(Counting), Product, None, {}, None)
            assert queryset.order_by("pk").last().pk == queryset.latest("pk").pk == 4

    def test_a_class_may_have_to_do_with_its_list_each_time(self) -> None:
        class Marking(QuerySet):
            def _fetch_all(self) -> None:
                super()._fetch_all()
                for one in self._result_cache:
                    one.marked = True

        for _ in range(3):
            queryset = starting.start(caching_class(Marking), Product, None, {}, None)
            queryset._result_cache = [Product()]  # as prefetch_related does
            assert [one.marked for one in queryset] == [True]
            queryset._result_cache = [Product()]
            assert len(queryset) == 1
            assert queryset._result_cache[0].marked

    def test_another_thread_may_ask_for_the_query(self) -> None:
        queryset = Product.cached.all()
        assert queryset.query
        assert lazy.get(queryset, (), {"pk": 2}).name == "p2"

    def test_other_threads_may_ask_for_a_manager_s_query_at_any_moment(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All calls of a manager go on from one queryset, which a call that Django makes builds."""
        manager = Product.cached

        def at(number: int, call: Callable[[], Any]) -> tuple[Any, bool]:
            """What a call gives when another thread comes in before a line of it."""
            left = number

            def line(frame: Any, event: str, arg: Any) -> Any:
                nonlocal left
                left -= event == "line"
                if left == 0 and event == "line":
                    thread = threading.Thread(target=lambda: shared.query)
                    thread.start()
                    thread.join()
                return line

            shared = manager._start()
            before = sys.gettrace()
            sys.settrace(lambda frame, *_: line if frame.f_code.co_filename in files else None)
            try:
                return call(), left <= 0
            finally:
                sys.settrace(before)

        files = [module.__file__ for module in (lazy, growing, recipes, starting)]
        calls: list[Callable[[], Any]] = [
            lambda: manager.get(pk=2).name,
            lambda: manager.filter(pk=2)[0].name,
            lambda: manager.order_by("pk")[1].name,
            lambda: manager.filter(pk=Lower("pk"), name="p2").query and "p2",
        ]
        for call in calls:
            for forgotten in (False, True):
                number, came = 0, True
                while came:
                    number += 1
                    if forgotten:
                        monkeypatch.setattr(recipes, "roots", {})
                    found, came = at(number, call)
                    assert found == "p2"

    def test_async(self) -> None:
        from asgiref.sync import async_to_sync

        async def work() -> Any:
            with pytest.raises(SynchronousOnlyOperation):
                list(Product.cached.filter(stock__gt=1).order_by("pk"))
            with pytest.raises(SynchronousOnlyOperation):
                Product.cached.get(pk=1)
            with pytest.raises(SynchronousOnlyOperation):
                Product.cached.count()
            listed = [row.pk async for row in Product.cached.filter(stock__gt=1).order_by("pk")]
            one = await Product.cached.aget(pk=listed[0])
            return listed, one.name, await Product.cached.acount(), await Product.cached.aexists()

        self.make()
        for _ in range(3):
            Product.cached.get(pk=1)
            Product.cached.count()
            assert async_to_sync(work)() == ([2, 3, 4], "p2", 4, True)

    def test_in_bulk_of_more_than_one_query(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(connections["default"].features), "max_query_params", 2)
        # From Django 6.1 on.
        monkeypatch.setattr(connections["default"].ops, "bulk_batch_size", lambda *args: 2)
        for _ in range(3):
            assert [*Product.cached.order_by("pk").in_bulk([4, 3, 2, 1])] == [
                *Product.objects.order_by("pk").in_bulk([4, 3, 2, 1])
            ]

    def test_a_long_chain(self) -> None:
        for _ in range(3):
            queryset = Product.cached.order_by("pk")
            for number in range(1200):
                queryset = queryset.reverse() if number % 2 else queryset.distinct()
            assert [row.pk for row in queryset] == [1, 2, 3, 4]

    def test_a_hit_leaves_nothing_to_the_garbage_collector(self) -> None:
        reads: list[Callable[[], Any]] = [
            lambda: list(self.make()),
            lambda: Product.cached.get(name="p1"),
            lambda: Product.cached.filter(stock=1).exists(),
            lambda: list(Product.cached.select_related("category").values("pk")),
        ]
        for read in reads:
            for _ in range(3):
                read()
            gc.collect()
            gc.disable()
            try:
                for _ in range(10):
                    read()
                assert gc.collect() == 0
            finally:
                gc.enable()

    def test_warnings_are_given_each_time(self) -> None:
        """Some versions of Django warn of a call."""
        for call in [
            lambda manager: manager.select_related(),
            lambda manager: manager.values_list(flat=True),
        ]:
            for manager in [Product.objects, Product.cached, Product.cached]:
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    call(manager)
                if manager is Product.objects:
                    expected = [str(one.message) for one in caught]
                assert [str(one.message) for one in caught] == expected

    def test_shapes_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(recipes, "MOST_SHAPES", 50)
        monkeypatch.setattr(recipes, "_shapes", 0)
        monkeypatch.setattr(recipes, "roots", {})
        for number in range(200):
            Product.cached.order_by("pk")[number : number + 2]
            Product.cached.filter(pk__in=[*range(1, 2 + number % 90)])
            Product.cached.filter(name__regex="x", stock__gt=number)
            assert count_shapes() <= 52
        assert [row.stock for row in self.make()] == [2, 3, 4]

    def test_an_unverified_filler_is_used_by_nobody(self, monkeypatch: Any) -> None:
        """Another thread may come by while the first rows are compared."""
        compare, seen = plans.same, []

        def comparing(*args: Any) -> bool:
            (plan,) = queryset._recipe[0].plans_of("rows").values()
            seen.append(plan.answer(((1, "x"),), "default"))
            return compare(*args) and False

        monkeypatch.setattr(plans, "same", comparing)
        for _ in range(3):
            queryset = Product.cached.only("name").filter(stock=1).exclude(name="unverified")
            assert [row.name for row in queryset] == ["p1"]
        assert seen == [None]


def count_shapes() -> int:
    def below(shape: Any) -> int:
        return 1 + sum(1 if one is None else below(one) for one in shape.children.values())

    return sum(map(below, recipes.roots.values()))


class TestWhatMayBeServed:
    """All that keeps a cached query from being served keeps a recipe from it."""

    @pytest.fixture(autouse=True)
    def rows(self, sqlite: Any) -> None:
        Product.objects.create(name="old")
        for _ in range(4):
            assert name_of() == "old"
        with built() as seen:
            name_of()
        assert not seen

    def is_fast(self) -> bool:
        with built() as seen:
            name_of()
        return not seen

    def test_own_writes_in_a_transaction(self) -> None:
        with transaction.atomic():
            assert name_of() == "old"
            assert self.is_fast()
            rename("mine")
            assert name_of() == "mine"
            assert not self.is_fast()
            transaction.set_rollback(True)
        assert name_of() == "old"
        assert self.is_fast()
        assert not local.busy

    def test_another_thread_s_transaction(self, elsewhere: Any) -> None:
        with transaction.atomic():
            rename("new")
            assert elsewhere(name_of) == "old"
            assert name_of() == "new"
        assert elsewhere(name_of) == "new"
        assert not local.busy

    def test_raw_statements(self, queries: Any) -> None:
        connection = connections["default"]
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("UPDATE shop_product SET name = 'raw'")
            assert name_of() == "raw"
            cursor.execute("ROLLBACK")
            assert name_of() == "old"
            cursor.execute("UPDATE shop_product SET name = 'raw'")
            assert name_of() == "raw"
        assert name_of() == "raw"
        assert not local.busy

    def test_an_unfinished_select(self, elsewhere: Any) -> None:
        Product.objects.create(name="second")
        rows = Product.objects.order_by("pk").iterator(chunk_size=1)
        next(rows)
        assert local.busy
        elsewhere(lambda: rename("new"))
        assert name_of(manager="objects") == "old"  # the snapshot is pinned
        rows.close()
        del rows
        assert name_of() == "new"
        assert not local.busy

    def test_autocommit_off(self) -> None:
        transaction.set_autocommit(False)
        try:
            rename("mine")
            assert name_of() == "mine"
        finally:
            transaction.rollback()
            transaction.set_autocommit(True)
        assert name_of() == "old"
        assert self.is_fast()
        assert not local.busy

    def test_a_finalizer_of_a_cursor_may_look_at_any_moment(self, monkeypatch: Any) -> None:
        """It says what ends, and must not take back that something has just begun."""
        stir = Transactions.stir

        def stirring(self: Any) -> None:
            stir(self)
            self.calm()

        monkeypatch.setattr(Transactions, "stir", stirring)
        monkeypatch.setattr(Written, "announce", lambda *args: None)  # which would hide it
        connection = connections["default"]
        for begin in [
            transaction.atomic,
            lambda: manual_transaction(connection),
            lambda: raw_transaction(connection),
        ]:
            with begin():
                before = name_of(manager="objects")
                assert local.busy
                Product.objects.filter(pk=1).update(name=f"not {before}")
                assert local.busy
                assert name_of() == f"not {before}"
            assert not local.busy
        rows = Product.objects.iterator(chunk_size=1)
        next(rows)
        assert local.busy

    def test_another_thread_cannot_tell(self, monkeypatch: Any) -> None:
        """It may find that nothing is under way, and then something is."""
        state = state_of(connections["default"])
        with transaction.atomic():
            before = set(local.busy)
            with monkeypatch.context() as patch:
                patch.setattr(state, "_is_usual", lambda: True)
                thread = threading.Thread(target=state.calm)
                thread.start()
                thread.join()
            assert local.busy == before != set()

    def test_a_connection_that_is_closed_below_django(self) -> None:
        cursor = connections["default"].cursor()
        cursor.execute("SELECT 1")
        connections["default"].connection.close()
        del cursor
        connections["default"].close()
        assert name_of() == "old"
        assert not local.busy

    def test_a_connection_that_is_closed_within_a_transaction(self) -> None:
        with transaction.atomic():
            rename("lost")
            connections["default"].close()
        assert name_of() == "old"
        assert name_of() == "old"
        assert not local.busy

    @pytest.mark.parametrize(
        "wrong", [{"QUARANTINE": "soon"}, {"SHADOW": 7}, {"ENABLED": False}, {"MODELS": 5}]
    )
    def test_a_setting_that_turns_reading_off(self, wrong: dict[str, Any], queries: Any) -> None:
        with override_settings(ZOOCACHE=wrong):
            for _ in range(2):
                with queries(1):
                    name_of()
        name_of()
        with queries(0):
            name_of()

    def test_a_scope_that_is_given_later(self, queries: Any) -> None:
        tenant = ["a"]
        with override_settings(ZOOCACHE={"SCOPE": lambda connection: tenant[0]}):
            with queries(1):
                name_of()
            with queries(0):
                name_of()
            tenant[0] = "b"
            with queries(1):
                name_of()
        with queries(0):
            name_of()

    def test_shadow(self, queries: Any) -> None:
        with override_settings(ZOOCACHE={"SHADOW": 1.0}), queries(3):
            for _ in range(3):
                name_of()

    def test_frames_depend_on_what_they_were_served(self) -> None:
        @zoocache.cacheable(key="title")
        def title() -> str:
            return f"<{name_of()}>"

        for _ in range(3):
            assert title() == "<old>"
        Product.objects.filter(pk=1).update(name="new")
        assert title() == "<new>"

    def test_it_can_be_told_why(self) -> None:
        from zoocache.contrib.django.why import why

        assert "a hit" in why(lambda: name_of())
        for _ in range(2):
            list(Product.cached.filter(pk=1))
        told = why(Product.cached.filter(pk=1))
        assert "a hit" in told
        assert "shop_product" in told

    def test_snapshot(self, elsewhere: Any) -> None:
        from zoocache.contrib.django.snapshots import snapshot as one_moment

        with one_moment():
            elsewhere(lambda: rename("new"))
            elsewhere(name_of)
            assert name_of() == name_of(manager="objects") == "old"
        assert name_of() == "new"


@contextmanager
def manual_transaction(connection: Any) -> Iterator[None]:
    transaction.set_autocommit(False)
    try:
        yield
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)


@contextmanager
def raw_transaction(connection: Any) -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        try:
            yield
        finally:
            cursor.execute("ROLLBACK")


def test_two_threads_with_databases_of_their_own(sqlite: Any) -> None:
    """Databases in memory are each connection's own, under one alias."""
    alias = "memory"
    connections.settings[alias] = copy.deepcopy(connections.settings["default"])
    connections.settings[alias]["NAME"] = ":memory:"
    found: dict[str, Any] = {}
    barrier = threading.Barrier(2, timeout=20)

    def work(name: str) -> None:
        connection = connections[alias]
        try:
            with connection.schema_editor() as editor:
                editor.create_model(Store)
                editor.create_model(Brand)
            Brand.objects.using(alias).create(code=name, name=name)
            names = []
            for _ in range(5):
                barrier.wait()
                names.append(Brand.cached.using(alias).get(pk=1).name)
            found[name] = names
        except BaseException as error:
            found[name] = error
            barrier.abort()
        finally:
            connection.connection.close()  # Django does not close one in memory

    threads = [threading.Thread(target=work, args=(name,)) for name in ("one", "other")]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        del connections.settings[alias]
    assert found == {"one": ["one"] * 5, "other": ["other"] * 5}


def test_an_alias_that_is_told_to_lead_elsewhere(sqlite: Any, rollback: Any) -> None:
    """Before it connects, and with nothing but hits in between."""
    Product.objects.using("default").create(name="default")
    Product.objects.using("other").create(name="other")
    alias = "moving"
    connections.settings[alias] = copy.deepcopy(connections.settings["default"])
    connection = connections[alias]
    try:
        for _ in range(4):
            for name in ("default", "other"):
                connection.close()
                connection.settings_dict["NAME"] = connections.settings[name]["NAME"]
                assert Product.cached.using(alias).get(pk=1).name == name
    finally:
        connection.close()
        del connections[alias], connections.settings[alias]


class TestCodeVersions:
    """Processes with another version of the models do not meet each other's entries."""

    @contextmanager
    def another(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """As in a process that has just been started."""
        with monkeypatch.context() as patch:
            patch.setattr(recipes, "roots", {})
            yield

    def test_another_order(self, sqlite: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in "ab":
            Category.objects.create(name=name)
        for _ in range(3):
            assert [row.name for row in Category.cached.all()] == ["a", "b"]
        with self.another(monkeypatch):
            monkeypatch.setattr(Category._meta, "ordering", ["-pk"])
            for _ in range(3):
                assert [row.name for row in Category.cached.all()] == ["b", "a"]

    def test_another_type_of_one_column(self, sqlite: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        Detail.objects.create(product=Product.objects.create(name="p"), weight=2.5)
        for _ in range(3):
            assert repr(Detail.cached.get().weight) == "2.5"
        field = Detail._meta.get_field("weight")
        with self.another(monkeypatch):
            monkeypatch.setattr(field, "__class__", CharField)
            monkeypatch.setattr(
                type(field), "from_db_value", lambda s, v, e, c: str(v), raising=False
            )
            for _ in range(3):
                assert Detail.cached.only("weight").values_list("weight", flat=True)[0] == "2.5"


# Random chains

values = st.sampled_from(
    [1, 2, 3, 10, True, False, 1.0, None, "1", "a", Decimal(1), [1, 2], (2, 1)]
)
fields = st.sampled_from(
    ["pk", "stock", "name", "active", "price", "category", "category__name", "tags", "store_id"]
)
lookups = st.sampled_from(
    [
        "",
        "",
        "__gt",
        "__lte",
        "__in",
        "__isnull",
        "__contains",
        "__startswith",
        "__range",
        "__iexact",
    ]
)
condition = st.tuples(fields, lookups, values).map(lambda t: (f"{t[0]}__{t[1]}", t[2]))
qs = st.recursive(
    condition.map(lambda pair: Q(pair)),
    lambda some: st.one_of(
        st.tuples(some, some).map(lambda p: p[0] | p[1]),
        st.tuples(some, some).map(lambda p: p[0] & p[1]),
        some.map(lambda q: ~q),
    ),
    max_leaves=3,
)
Step = Callable[[Any], Any]
steps: st.SearchStrategy[Step] = st.one_of(
    st.lists(condition, min_size=1, max_size=2).map(lambda c: lambda q: q.filter(**dict(c))),
    condition.map(lambda c: lambda q: q.exclude(**dict([c]))),
    qs.map(lambda one: lambda q: q.filter(one)),
    st.sampled_from(["pk", "-pk", "name", "-stock", "category__name"]).map(
        lambda name: lambda q: q.order_by(name, "pk")
    ),
    st.tuples(st.integers(0, 3), st.integers(0, 5)).map(lambda p: lambda q: q[p[0] : p[1]]),
    st.sampled_from(["category", "store", "related", "category__parent", "detail"]).map(
        lambda name: lambda q: q.select_related(name)
    ),
    st.lists(st.sampled_from(["pk", "name", "stock", "data", "price"]), unique=True).map(
        lambda names: lambda q: q.only(*names)
    ),
    st.lists(st.sampled_from(["pk", "name", "stock", "data"]), unique=True).map(
        lambda names: lambda q: q.values(*names)
    ),
    st.tuples(st.sampled_from(["pk", "name", "category__name"]), st.booleans()).map(
        lambda p: lambda q: q.values_list(p[0], flat=p[1])
    ),
    st.sampled_from([Count("tags"), Sum("stock", default=1), Max("made")]).map(
        lambda one: lambda q: q.annotate(n=one)
    ),
    st.just(lambda q: q.distinct()),
    st.just(lambda q: q.reverse()),
    st.just(lambda q: q.all()),
    st.just(lambda q: q.prefetch_related("tags")),
)
asks = st.sampled_from(
    [
        list,
        list,
        lambda q: q.count(),
        lambda q: q.exists(),
        lambda q: q.first(),
        lambda q: q.get(),
        lambda q: q.get(pk=2),
        lambda q: list(q[:2]),
        lambda q: q[0],
        lambda q: q.last(),
        lambda q: q.latest("stock"),
        lambda q: q.earliest("-price", "pk"),
        lambda q: q.in_bulk([2, 1]),
        lambda q: q.contains(Product(pk=2)),
        lambda q: q.aggregate(Sum("stock"), n=Count("pk")),
    ]
)


def test_random_chains(sqlite: Any, evidence: Callable[..., None]) -> None:
    from shop import stock

    stock.fill()
    counts = {"chains": 0, "found": 0, "errors": 0}

    @seed(SEED)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(steps, max_size=4), asks)
    def check(chain: list[Step], ask: Callable[[Any], Any]) -> None:
        def run(manager: Any) -> Any:
            def make(manager: Any) -> Any:
                queryset = manager.order_by("pk")
                for step in chain:
                    queryset = step(queryset)
                return queryset

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return place(make, manager, ask)

        expected = run(Product.objects)
        found = [run(Product.cached), run(Product.cached)]
        with built() as seen:
            found.append(run(Product.cached))
        assert found == [expected] * 3, f"seed {SEED}"
        counts["chains"] += 1
        counts["found"] += not seen
        counts["errors"] += isinstance(expected[1], type)

    check()
    assert counts["found"] > 0
    evidence("random chains", **counts)


def test_calls_that_come_to_one_select_share_its_entry(sqlite: Any, queries: Any) -> None:
    """A view's filter().get() finds what another's get() has stored."""
    Category.objects.create(pk=5, name="five")
    for _ in range(2):
        Category.cached.get(pk=5)
    # The first time each is Django's, and finds the entry all the same.
    with queries(0):
        assert Category.cached.filter(pk=5).get().name == "five"
        assert Category.cached.filter(pk=5).get().name == "five"
    for _ in range(2):
        assert rows(Category.cached.filter(name__startswith="fi")) == [5]
        assert rows(Category.cached.filter(name__endswith="fi")) == []


def test_one_select_is_prefetched_for_in_several_ways(sqlite: Any) -> None:
    category = Category.objects.create(pk=5, name="five")
    Product.objects.create(pk=1, name="one", category=category)
    for _ in range(4):
        plainly = Category.cached.filter(pk=5)
        fetched = Category.cached.filter(pk=5).prefetch_related("product_set")
        assert not hasattr(plainly[0], "_prefetched_objects_cache")
        assert [one.pk for one in fetched[0].product_set.all()] == [1]


def test_values_that_are_equal_by_chance_do_not_tell_their_order(sqlite: Any) -> None:
    """What is learnt of filter(stock=7, id=7) is not that values come in the SQL's order."""
    Product.objects.create(pk=1, name="p", stock=5)
    reads: list[Callable[[Any], Any]] = [
        lambda M: M.filter(stock=7, id=7).count(),
        lambda M: M.filter(id=7, stock=7).count(),
        lambda M: M.filter(id=1, stock=5).count(),
        lambda M: M.filter(stock=1, id=5).count(),
        lambda M: M.filter(stock=5, id=1).count(),
        lambda M: M.filter(id=5, stock=1).count(),
    ]
    for read in (*reads, *reads, *reversed(reads)):
        assert read(Product.cached) == read(Product.objects)
