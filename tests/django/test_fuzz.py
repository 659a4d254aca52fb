"""Random querysets against random writes: what is cached equals what the database holds.

The generators prefer what a dependency on row and foreign key tags could miss (partial writes, keys
that the writer does not know, LIMIT with an order that moves, NULLs). test_fuzz_directed.py has
generators for one kind of mistake each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db.models import Case, Count, Exists, OuterRef, Subquery, Sum, Value, When, Window
from django.db.models.functions import Coalesce, RowNumber
from fuzz_engine import EXAMPLES, SEED, Block, Fuzz, stocks
from fuzz_steps import categories, filtered, pins, pks, writes
from hypothesis import strategies as st
from shop.models import Book, Category, Discount, Product

extras = st.one_of(
    st.just(lambda queryset: queryset),
    st.booleans().map(lambda active: filtered(active=active)),
    stocks.map(lambda n: filtered(stock=n)),
    st.integers(0, 2).map(lambda n: filtered(stock__gt=n)),
    st.just(filtered(category__name="b")),
    st.just(filtered(related__active=True)),
    st.just(filtered(tags__name="red")),
    st.just(lambda queryset: queryset.exclude(relatives__active=True)),
    st.just(
        lambda queryset: queryset.filter(
            Exists(Product.objects.filter(category=OuterRef("category"), stock__gt=1))
        )
    ),
    st.just(
        lambda queryset: queryset.annotate(
            of=Subquery(Category.objects.filter(pk=OuterRef("category")).values("name")[:1])
        )
    ),
    st.just(lambda queryset: queryset.annotate(n=Count("relatives"))),
    st.just(lambda queryset: queryset.annotate(n=Count("category__product"))),
    st.just(lambda queryset: queryset.select_related("category", "related")),
    st.just(lambda queryset: queryset.prefetch_related("tags", "relatives")),
    st.just(lambda queryset: queryset.distinct()),
)

orders = st.one_of(
    st.just(lambda queryset: queryset.order_by("pk")),
    st.just(lambda queryset: queryset.order_by("-stock", "pk")),
    st.just(lambda queryset: queryset.order_by("name", "-pk")),
    st.just(lambda queryset: queryset.order_by("category__name", "pk")),
    st.just(lambda queryset: queryset.annotate(some=Coalesce("stock", 9)).order_by("-some", "pk")),
    st.just(
        lambda queryset: queryset.annotate(
            kind=Case(When(active=True, then=Value(1)), default=Value(2))
        ).order_by("kind", "-pk")
    ),
)

forms = st.one_of(
    st.just(list),
    st.just(list),
    st.integers(1, 3).map(lambda n: lambda queryset: list(queryset[:n])),
    st.integers(1, 3).map(lambda n: lambda queryset: list(queryset[:n])),
    st.integers(1, 2).map(lambda n: lambda queryset: list(queryset[n : n + 2])),
    st.just(lambda queryset: queryset.first()),
    st.just(lambda queryset: queryset.count()),
    st.just(lambda queryset: queryset.exists()),
    st.just(lambda queryset: queryset.aggregate(s=Sum("stock"))),
    st.just(lambda queryset: list(queryset.values("pk", "name", "category"))),
    st.just(lambda queryset: list(queryset.values_list("category__name", flat=True))),
    st.just(lambda queryset: list(queryset.only("name"))),
    st.just(lambda queryset: queryset.get()),
)

kinds = st.sampled_from([Product, Product, Product, Discount, Book])

# What a dependency on a row and a membership must get right: which rows the list shows.
narrow = st.tuples(
    st.sampled_from([Product, Product, Discount]),
    categories.map(lambda c: filtered(category=c)),
    st.one_of(
        st.just(filtered(active=True)),
        st.just(filtered(stock__gt=1)),
        st.just(filtered(stock=None)),
        st.just(filtered(name="a")),
        st.just(filtered(related__active=True)),
        st.just(lambda queryset: queryset),
    ),
    st.one_of(
        st.just(lambda queryset: queryset.order_by("-stock", "pk")),
        st.just(lambda queryset: queryset.order_by("name", "-pk")),
        st.just(
            lambda queryset: queryset.annotate(some=Coalesce("stock", 9)).order_by("-some", "pk")
        ),
    ),
    st.sampled_from(
        [
            list,
            lambda queryset: list(queryset[:1]),
            lambda queryset: list(queryset[:2]),
            lambda queryset: list(queryset[1:3]),
            lambda queryset: list(
                queryset.annotate(row=Window(RowNumber(), order_by="-pk")).order_by("pk")[:2]
            ),
        ]
    ),
)
# One row, and what else of its own table it shows.
pinned = st.tuples(
    st.just(Product),
    pks.map(lambda pk: filtered(pk=pk)),
    st.one_of(
        st.just(filtered(related__active=True)),
        st.just(lambda queryset: queryset.annotate(n=Count("relatives"))),
        st.just(lambda queryset: queryset.annotate(n=Sum("category__product__stock"))),
        st.just(lambda queryset: queryset.prefetch_related("relatives")),
    ),
    st.just(lambda queryset: queryset),
    st.just(list),
)


def _read(parts: tuple[Any, ...]) -> Callable[[Callable[[Any], Any]], Any]:
    model, pin, extra, order, form = parts
    return lambda manager: form(order(extra(pin(manager(model).all()))))


reads = st.one_of(
    narrow.map(_read),
    narrow.map(_read),
    pinned.map(_read),
    st.tuples(kinds, pins, extras, orders, forms).map(_read),
    st.tuples(kinds, pins, extras, orders, forms).map(_read),
)


# The other databases cost more, and differ from SQLite in little of what is tested here.
SHARES = {"sqlite": 1.0, "postgresql": 0.3, "mysql": 0.3}


def test_random_reads_and_writes(db: Any, evidence: Callable[..., None]) -> None:
    fuzz = Fuzz()
    together = st.lists(writes, min_size=1, max_size=4).flatmap(
        lambda some: st.sampled_from([some, [Block([write], True) for write in some]])
    )
    examples = max(1, round(EXAMPLES * SHARES[db.vendor]))
    fuzz.play(st.lists(reads, min_size=4, max_size=7), together, examples)
    assert fuzz.figures["kept"], "nothing was kept"
    assert fuzz.figures["changed"], "nothing changed"
    evidence(f"fuzz on {db.vendor}, seed {SEED}", **fuzz.figures)
