"""Reads for the directed generators: what depends on more than the rows that it shows."""

from __future__ import annotations

from typing import Any

from django.db.models import Case, Count, Exists, F, OuterRef, Subquery, Sum, Value, When
from django.db.models.functions import Coalesce, Length
from fuzz_engine import next_key
from fuzz_steps import categories, filtered, pks
from hypothesis import strategies as st
from shop.models import Category, Product
from shop.reads import Read

P, C = Product, Category
Strategy = st.SearchStrategy[Any]


def chain(model: Any, *steps: Any, form: Any = list) -> Strategy:
    """Reads of a model: a step from each strategy, then what is made of the queryset."""
    models = model if isinstance(model, st.SearchStrategy) else st.just(model)
    forms = form if isinstance(form, st.SearchStrategy) else st.just(form)

    def read(parts: Any) -> Read:
        chosen, its_steps, its_form = parts

        def run(M: Any) -> Any:
            queryset = M(chosen).all()
            for its_step in its_steps:
                queryset = its_step(queryset)
            return its_form(queryset)

        return run

    return st.tuples(models, st.tuples(*steps), forms).map(read)


by_category = categories.map(lambda c: filtered(category=c))
conditions = st.sampled_from(
    [
        filtered(active=True),
        filtered(active=False),
        filtered(stock__gt=1),
        filtered(stock=None),
        filtered(name="a"),
    ]
)
moving_orders = st.sampled_from(
    [
        lambda q: q.annotate(some=Coalesce("stock", 9)).order_by("-some", "pk"),
        lambda q: q.annotate(some=Coalesce("stock", -1)).order_by("some", "-pk"),
        lambda q: q.annotate(
            kind=Case(When(active=True, then=Value(1)), default=Value(2))
        ).order_by("kind", "-pk"),
        lambda q: q.annotate(twice=Coalesce("stock", 0) * 2 + F("pk")).order_by("-twice"),
        lambda q: q.alias(size=Length("name") + Coalesce("stock", 5)).order_by("size", "pk"),
        lambda q: q.order_by("name", Coalesce("stock", 7).desc(), "pk"),
    ]
)


@st.composite
def slices(draw: Any) -> Any:
    start, size = draw(st.integers(0, 1)), draw(st.integers(1, 2))
    return lambda queryset: list(queryset[start : start + size])


limits = st.integers(1, 3).map(lambda n: lambda queryset: list(queryset[:n]))
lists = st.one_of(st.just(list), limits)
shapes = st.one_of(
    lists,
    lists,
    st.sampled_from(
        [
            lambda q: q.count(),
            lambda q: q.exists(),
            lambda q: q.aggregate(n=Count("pk"), top=Sum("stock")),
            lambda q: q.order_by("pk").last(),
            lambda q: [*q.order_by("pk")[:1], *q.in_bulk([1, 2, 3]).values()],
            lambda q: [q.contains(P(pk=pk)) for pk in (1, 2, 3)],
            lambda q: list(q.values_list("pk", "name")),
        ]
    ),
)
row = pks.map(lambda pk: lambda M: list(M(P).filter(pk=pk)))


# What the reads of a direction look like


def in_gaps(pk: int) -> Any:
    return lambda queryset: queryset.filter(pk__in=[pk, next_key(), 99])


def union_of(parts: Any) -> Read:
    kind, category, pk, form = parts

    def run(M: Any) -> Any:
        first = M(P).filter(category=category).order_by()
        second = M(P).filter(pk=pk) if pk else M(P).filter(active=True)
        if kind == "union of tables":
            names = first.values_list("name").union(M(C).order_by().values_list("name"))
            return form(names.order_by("name"))
        return form(getattr(first, kind)(second).order_by("pk"))

    return run


def _exists(negated: bool, **inner: Any) -> Any:
    def step(queryset: Any) -> Any:
        key = "category" if queryset.model is P else "pk"
        found = Exists(P.objects.filter(category=OuterRef(key), **inner))
        return queryset.filter(~found if negated else found)

    return step


own_existences = st.one_of(
    st.builds(_exists, st.booleans(), stock__gt=st.integers(0, 2)),
    st.builds(_exists, st.booleans(), active=st.booleans()),
    st.just(
        lambda q: q.annotate(
            n=Subquery(
                P.objects.filter(category=OuterRef("pk" if q.model is C else "category"))
                .order_by(Coalesce("stock", -1).desc(), "pk")
                .values("name")[:1]
            )
        )
    ),
)
existences = st.one_of(
    own_existences,
    own_existences,
    st.builds(_exists, st.booleans(), name=st.sampled_from("ab"), category__rank=categories),
    st.just(
        lambda q: q.annotate(
            kind=Case(
                When(Exists(P.tags.through.objects.filter(product=OuterRef("pk"))), then=Value(1)),
                default=Value(0),
            )
        )
    ),
    st.just(lambda q: q.filter(pk__in=P.objects.filter(stock__gt=1).values("category"))),
)
by_pk = st.sampled_from([lambda q: q.order_by("pk"), lambda q: q.order_by("-pk")])
same = st.just(lambda queryset: queryset)


def to_products(queryset: Any) -> str:
    """The way from a model of these to products."""
    return "" if queryset.model is P else "product__"
