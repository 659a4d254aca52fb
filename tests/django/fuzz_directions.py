"""Generators that are each after one kind of mistake: reads, and writes that they could miss.

test_fuzz_directed.py plays them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import fuzz_writes as w
from django.db.models import (
    Count,
    Prefetch,
)
from fuzz_engine import next_key
from fuzz_reads import (
    by_category,
    by_pk,
    chain,
    conditions,
    existences,
    in_gaps,
    limits,
    lists,
    moving_orders,
    own_existences,
    same,
    shapes,
    slices,
    to_products,
    union_of,
)
from fuzz_steps import (
    bulk_updates,
    categories,
    category_renames,
    deferred_saves,
    deletes,
    expression_updates,
    filtered,
    moves,
    partial_saves,
    pks,
    stale_saves,
    step,
    taggings,
    toggles,
)
from hypothesis import strategies as st
from shop.models import Book, Brand, Category, Detail, Discount, Product, Store, Tag

P, C = Product, Category
Strategy = st.SearchStrategy[Any]


class Direction(NamedTuple):
    reads: Strategy
    writes: Strategy
    more: Callable[[], Any] = lambda: None
    """Makes further rows."""


DIRECTIONS: dict[str, Direction] = {
    "a partial write, LIMIT, and the order of an annotation": Direction(
        chain(
            st.sampled_from([P, P, Discount]), by_category, conditions, moving_orders, form=limits
        ),
        st.one_of(toggles, partial_saves),
    ),
    "a deferred instance is saved": Direction(
        chain(P, by_category, conditions, by_pk, form=lists),
        st.one_of(w.deferred_toggles, w.deferred_toggles, deferred_saves, stale_saves),
    ),
    "a foreign key is set by an expression": Direction(
        chain(P, by_category, st.one_of(same, conditions), by_pk, form=lists),
        st.one_of(w.expressed_keys, w.expressed_keys, expression_updates),
    ),
    "some columns are updated in bulk": Direction(
        chain(P, by_category, st.one_of(same, conditions), moving_orders, form=lists),
        bulk_updates,
    ),
    "a row enters or leaves a slice": Direction(
        chain(P, by_category, moving_orders, form=slices()),
        st.one_of(toggles, toggles, w.whole_saves, deletes),
    ),
    "exclude over many, and the other table's rows move": Direction(
        st.one_of(
            chain(
                st.sampled_from([P, C]),
                st.sampled_from(
                    [
                        lambda q: q.exclude(**{to_products(q) + "active": True}),
                        lambda q: q.exclude(**{to_products(q) + "stock__gt": 1}),
                        lambda q: q.exclude(**{to_products(q) + "tags__name": "red"}),
                        lambda q: q.exclude(**{to_products(q) + "relatives__active": True}),
                    ]
                ),
                by_pk,
                form=shapes,
            ),
            chain(
                P,
                st.one_of(by_category, st.just(filtered(pk=1))),
                st.sampled_from(
                    [
                        lambda q: q.exclude(relatives__stock__gt=1),
                        lambda q: q.exclude(relatives__active=False),
                    ]
                ),
                by_pk,
            ),
        ),
        st.one_of(moves, toggles, toggles, taggings, w.whole_saves),
        w.put_tags,
    ),
    "Exists and its negation": Direction(
        st.one_of(
            chain(st.sampled_from([P, C]), existences, by_pk, form=shapes),
            chain(P, by_category, existences, by_pk),
            *[chain(P, pks.map(lambda pk: filtered(pk=pk)), own_existences)] * 2,
        ),
        st.one_of(toggles, toggles, moves, w.whole_saves, deletes, taggings),
        w.put_tags,
    ),
    "many to many, from both sides": Direction(
        st.one_of(
            chain(
                P,
                st.one_of(by_category, conditions),
                st.just(lambda q: q.prefetch_related("tags")),
                by_pk,
            ),
            chain(
                Tag,
                st.sampled_from(
                    [
                        lambda q: q.prefetch_related("product_set"),
                        lambda q: q.prefetch_related(
                            Prefetch("product_set", P.objects.filter(active=True), to_attr="shown")
                        ),
                        lambda q: q.annotate(n=Count("product")),
                        lambda q: q.filter(product__stock__gt=0).distinct(),
                    ]
                ),
                by_pk,
            ),
            chain(P, w.tags.map(lambda tag: filtered(tags=tag)), by_pk, form=shapes),
            pks.map(lambda pk: lambda M: list(M(Tag).filter(product=pk).order_by("pk"))),
        ),
        st.one_of(w.many_to_many, w.many_to_many, toggles),
        w.put_tags,
    ),
    "a multi-table child, and its parent's columns": Direction(
        st.one_of(
            chain(
                st.sampled_from([Book, Book, P]),
                st.one_of(
                    by_category,
                    conditions,
                    w.book_keys.map(lambda pk: filtered(pk=pk)),
                    st.just(filtered(related=11)),
                ),
                st.one_of(by_pk, moving_orders),
                form=shapes,
            ),
            chain(Book, st.sampled_from([filtered(shelf=1), filtered(author="x")]), by_pk),
            chain(P, st.just(filtered(book__author="x")), by_pk),
            chain(P, st.just(lambda q: q.select_related("book")), by_pk),
        ),
        st.one_of(w.book_writes, w.book_writes, moves, deletes),
        w.put_books,
    ),
    "proxies and historical models": Direction(
        chain(
            st.sampled_from([P, Discount]), st.one_of(by_category, conditions), by_pk, form=shapes
        ),
        st.one_of(w.proxied, w.historical),
    ),
    "the parts of a union": Direction(
        st.tuples(
            st.sampled_from(["union", "union", "intersection", "difference", "union of tables"]),
            categories,
            st.one_of(st.none(), pks),
            st.one_of(lists, lists, st.just(lambda q: q.count())),
        ).map(union_of),
        st.one_of(moves, toggles, w.whole_saves, w.whole_saves, category_renames),
    ),
    "what select_related brings along": Direction(
        chain(
            P,
            st.one_of(by_category, conditions, pks.map(lambda pk: filtered(pk=pk))),
            st.sampled_from(
                [
                    lambda q: q.select_related("category", "store"),
                    lambda q: q.select_related("category__parent"),
                    lambda q: q.select_related("related__category"),
                    lambda q: q.select_related("detail"),
                    lambda q: q.order_by("category__name"),
                    lambda q: q.filter(related__active=True).select_related("related"),
                ]
            ),
            st.just(lambda q: q.order_by(*q.query.order_by, "pk")),
            form=lists,
        ),
        st.one_of(
            category_renames,
            step(lambda pk: Store.objects.filter(pk=pk).update(name="z"), st.integers(1, 2)),
            step(lambda pk: Detail.objects.filter(product=pk).update(text="z"), pks),
            step(lambda pk: Detail.objects.create(product_id=pk), st.integers(3, 5)),
            step(lambda pk: Detail.objects.filter(product=pk).delete(), st.integers(1, 2)),
            step(lambda pk: C.objects.filter(pk=pk).update(parent=3), categories),
            toggles,
            moves,
        ),
        w.put_details,
    ),
    "keys with gaps, and inserts": Direction(
        chain(
            P,
            pks.map(in_gaps),
            st.one_of(same, conditions),
            by_pk,
            form=st.one_of(shapes, st.just(lambda q: q.model and sorted(q.in_bulk()))),
        ),
        w.inserts,
    ),
    "what is not there, and inserts": Direction(
        st.one_of(
            chain(
                P,
                st.sampled_from(
                    [
                        *[filtered(category=3)] * 3,
                        filtered(pk=99),
                        filtered(pk=6),
                        lambda q: q.filter(pk=next_key()),
                        lambda q: q.filter(pk=next_key(), active=True),
                        filtered(name="c"),
                    ]
                ),
                st.one_of(same, conditions),
                form=st.one_of(
                    shapes, st.sampled_from([lambda q: q.get(), lambda q: q.order_by("pk").first()])
                ),
            ),
        ),
        st.one_of(w.inserts, moves),
    ),
    "upserts": Direction(
        st.one_of(
            chain(P, by_category, by_pk, form=lists),
            chain(P, conditions, by_pk, form=shapes),
            chain(P, pks.map(in_gaps), by_pk, form=shapes),
            chain(Brand, st.just(filtered(code="X")), form=shapes),
            chain(P, st.just(filtered(brand="X")), st.just(lambda q: q.select_related("brand"))),
        ),
        w.upserts,
        w.put_everything,
    ),
    "raw SQL": Direction(
        st.one_of(
            chain(P, st.one_of(by_category, conditions), by_pk, form=shapes),
            chain(
                st.sampled_from([Tag, C, Detail]),
                st.sampled_from([lambda q: q, filtered(pk=1), filtered(pk__in=[1, 2, 4])]),
                by_pk,
                form=shapes,
            ),
        ),
        w.raw,
        w.put_everything,
    ),
    "what on_delete does": Direction(
        st.one_of(
            chain(P, st.sampled_from([filtered(store=1), filtered(store=2)]), by_pk, form=shapes),
            chain(P, st.sampled_from([filtered(related=1), filtered(brand="X")]), by_pk),
            chain(P, st.one_of(by_category, conditions), by_pk, form=shapes),
            chain(st.sampled_from([Detail, Detail, C, Tag, Brand]), by_pk, form=shapes),
            chain(P, pks.map(lambda pk: filtered(tags=pk)), by_pk, form=shapes),
        ),
        w.on_delete,
        w.put_everything,
    ),
    "transactions with savepoints": Direction(
        st.one_of(
            chain(P, st.one_of(by_category, conditions), by_pk, form=shapes),
            chain(P, pks.map(lambda pk: filtered(pk=pk))),
            chain(C, st.sampled_from([lambda q: q, filtered(pk=1)]), by_pk),
        ),
        w.transactions,
    ),
}
