"""Steps of queries, and writes of products, for the fuzzers: strategies of functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db.models import F, Q
from fuzz_engine import sql, stocks
from hypothesis import strategies as st
from shop import routing
from shop.models import Book, Category, Discount, Product

pks = st.integers(1, 5)
categories = st.sampled_from([1, 1, 2, 3])

Step = Callable[[Any], Any]
"""From a queryset to another one."""


def filtered(**how: Any) -> Step:
    return lambda queryset: queryset.filter(**how)


pins = st.one_of(
    categories.map(lambda c: filtered(category=c)),
    categories.map(lambda c: filtered(category=c)),
    categories.map(lambda c: filtered(category__pk=c)),
    st.lists(categories, min_size=1, max_size=2).map(lambda c: filtered(category__in=c)),
    st.tuples(categories, st.integers(1, 2)).map(lambda p: filtered(category=p[0], store=p[1])),
    pks.map(lambda pk: filtered(pk=pk)),
    st.lists(pks, min_size=1, max_size=4).map(lambda pk: filtered(pk__in=pk)),
    pks.map(lambda pk: filtered(related=pk)),
    st.just(lambda queryset: queryset),
    categories.map(lambda c: lambda queryset: queryset.filter(Q(category=c) | Q(stock=1))),
    categories.map(lambda c: lambda queryset: queryset.exclude(category=c)),
    st.just(filtered(category=None)),
)


# Writes

values = st.fixed_dictionaries(
    {},
    optional={
        "category_id": st.one_of(st.none(), categories),
        "active": st.booleans(),
        "stock": stocks,
        "store_id": st.one_of(st.none(), st.integers(1, 2)),
        "related_id": st.one_of(st.none(), st.integers(1, 4)),
        "name": st.sampled_from(["a", "b", "c"]),
    },
)
FIELDS = ["category", "active", "stock", "store", "related", "name"]


def _instance(pk: int, changes: dict[str, Any], queryset: Any = None) -> Any:
    queryset = Product.objects.all() if queryset is None else queryset
    product = queryset.filter(pk=pk).first()
    for name, value in changes.items() if product else ():
        setattr(product, name, value)
    return product


def _save(p: Any) -> None:
    product = _instance(*p)
    if product:
        product.save()


def _save_some(p: Any) -> None:
    """Attributes are changed that are not saved."""
    pk, changes, fields = p
    product = _instance(pk, changes)
    if product:
        product.save(update_fields=fields)


def _toggle(p: Any) -> None:
    """A small change by a partial write, which does not know the row's keys."""
    pk, how, stock = p
    product = Product.objects.filter(pk=pk).first()
    if product is None:
        return
    active = not product.active
    if how == "save":
        product.active, product.stock = active, stock
        product.save(update_fields=["active", "stock"])
    elif how == "deferred":
        product = Product.objects.only("active", "stock").get(pk=pk)
        product.active, product.stock = active, stock
        product.save()
    elif how == "update":
        Product.objects.filter(pk=pk).update(active=active, stock=stock)
    elif how == "proxy":
        Discount.objects.filter(pk=pk).update(active=active, stock=stock)
    elif how == "name":
        product.name = "a" if product.name != "a" else "c"
        product.save(update_fields=["name"])
    else:
        product.active, product.stock = active, stock
        Product.objects.bulk_update([product], ["active", "stock"])


def _move(p: Any) -> None:
    pk, how, category = p
    if how == "proxy":
        Discount.objects.filter(pk=pk).update(category=category)
    elif how == "update":
        Product.objects.filter(pk=pk).update(category=category)
    elif how == "F":
        Product.objects.filter(pk=pk).update(category=F("store"))
    elif how == "save":
        product = Product.objects.filter(pk=pk).first()
        if product:
            product.category_id = category
            product.save(update_fields=["category"])


def _save_deferred(p: Any) -> None:
    pk, changes, fields = p
    product = _instance(pk, {}, Product.objects.only(*fields))
    for name, value in changes.items() if product else ():
        if name in fields or name.removesuffix("_id") in fields:
            setattr(product, name, value)
    if product:
        product.save()


def _save_stale(p: Any) -> None:
    """Loaded before another write moved the row, saved in part after it."""
    pk, changes, fields = p
    product = _instance(pk, changes)
    Product.objects.filter(pk=pk).update(category=F("store"))
    if product:
        product.save(update_fields=fields)


def _bulk_update(p: Any) -> None:
    """Several rows get values of their own; attributes are changed that are not saved."""
    changes, fields, batch_size = p
    products = list(Product.objects.filter(pk__in=changes))
    for product in products:
        for name, value in changes[product.pk].items():
            setattr(product, name, value)
    Product.objects.bulk_update(products, fields, batch_size=batch_size)


def _update(p: Any) -> None:
    pin, extra, changes = p
    changes = {**changes} or {"stock": F("stock") + 1}
    extra(pin(Product.objects.all())).update(**changes)


def _create(changes: dict[str, Any]) -> None:
    Product.objects.create(**changes)


def _book(changes: dict[str, Any]) -> None:
    Book.objects.create(author="x", **changes)


def _raw(p: Any) -> None:
    pk, category = p
    sql("UPDATE shop_product SET category_id = %s WHERE id = %s", [category, pk])


def _delete(pk: int) -> None:
    if pk % 2:
        Product.objects.filter(pk=pk).delete()
    else:  # without the UPDATE that sets `related` to NULL in rows that it does not know
        Product.tags.through.objects.filter(product=pk).delete()
        Product.objects.filter(related=pk).update(related=None)
        if not Book.objects.filter(pk=pk).exists():
            Product.objects.filter(pk=pk)._raw_delete(routing.active)


def _tag(pk: int) -> None:
    product = Product.objects.filter(pk=pk).first()
    if product:
        product.tags.set([] if product.tags.exists() else [1])


some_fields = st.lists(st.sampled_from(FIELDS), min_size=1, max_size=2, unique=True)
plain_extras = st.one_of(
    st.just(lambda queryset: queryset),
    st.booleans().map(lambda active: filtered(active=active)),
    st.just(filtered(category__name="b")),
)


class Call:
    """A function and its argument: a write that a failing example can show."""

    def __init__(self, function: Callable[[Any], None], given: Any) -> None:
        self.function, self.given = function, given

    def __call__(self) -> None:
        self.function(self.given)

    def __repr__(self) -> str:
        return f"{self.function.__name__}({self.given!r})"


def step(function: Callable[[Any], None], argument: Any) -> Any:
    return argument.map(lambda given: Call(function, given))


def one(function: Callable[[], Any]) -> Any:
    """A strategy of one write."""
    return st.just(function)


hows = st.sampled_from(["save", "deferred", "update", "proxy", "name", "bulk", "F"])
some_category = st.one_of(st.none(), categories)

toggles = step(_toggle, st.tuples(pks, hows, stocks))
moves = step(_move, st.tuples(pks, hows, some_category))
saves = step(_save, st.tuples(pks, values))
partial_saves = step(_save_some, st.tuples(pks, values, some_fields))
deferred_saves = step(_save_deferred, st.tuples(pks, values, some_fields))
stale_saves = step(_save_stale, st.tuples(pks, values, some_fields))
updates = step(_update, st.tuples(pins, plain_extras, values))
expression_updates = step(
    _update,
    st.tuples(
        pins,
        plain_extras,
        st.sampled_from(
            [
                {"category": F("store")},
                {"stock": F("pk")},
                {"active": Q(stock__gt=1)},
                {"category": None},
                {"related": F("related")},
            ]
        ),
    ),
)
whole = st.fixed_dictionaries(
    {"category_id": some_category, "active": st.booleans(), "stock": stocks}
)
bulk_updates = step(
    _bulk_update,
    st.tuples(
        st.dictionaries(pks, whole, min_size=1, max_size=3),
        st.sampled_from([["stock"], ["active"], ["stock", "active"], ["category"], FIELDS]),
        st.sampled_from([None, 1, 2]),
    ),
)
creates = step(_create, values)
books = step(_book, values)
deletes = step(_delete, pks)
raw_moves = step(_raw, st.tuples(pks, some_category))
taggings = step(_tag, pks)
category_renames = step(lambda pk: Category.objects.filter(pk=pk).update(name="b"), categories)

writes = st.one_of(
    *[toggles] * 4,
    *[moves] * 2,
    saves,
    *[partial_saves] * 2,
    deferred_saves,
    stale_saves,
    updates,
    expression_updates,
    bulk_updates,
    creates,
    books,
    deletes,
    raw_moves,
    taggings,
    category_renames,
    one(lambda: Category.objects.filter(pk=3).delete()),
)
