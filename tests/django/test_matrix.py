"""Every shape of read against every write: prime, write, read again, compare with the database."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from conftest import empty
from django.db import transaction
from django.db.utils import NotSupportedError, ProgrammingError
from shop import stock
from shop.models import Book, Category, Parcel, Product, Tag
from shop.reads import CACHED, cached, outcome, plain
from shop.stock import PARCELS
from shop.writes import WRITES

import zoocache

Queries = Callable[..., Any]

# Reads that differ from others in what they make of the rows, not in what they depend on.
ALIKE = {
    "get text", "get and filter", "len", "bool", "in_bulk all", "in_bulk by field", "index", "step",
    "values_list", "values_list flat", "values_list named", "defer", "only related", "datetimes",
    "datetimes elsewhere", "reverse", "order by nulls", "uuid by text", "money values",
    "by category text", "by category instance", "by category pk", "json deep", "lookups", "regex",
    "f in filter", "count two", "trunc", "trunc elsewhere", "async list", "aget", "acount",
    "afirst", "ain_bulk", "aaggregate", "aexists", "latest", "earliest of none", "first of none",
}  # fmt: skip
SHAPES = {name: read for name, read in CACHED.items() if name not in ALIKE}

ORM = ["save", "create", "delete", "bulk", "update", "m2m"]
GROUPS = ["nothing", *ORM, "raw", "other"]


def _group(name: str) -> str:
    return next((group for group in GROUPS if name.startswith(group)), "other")


def _stale_after(write: Callable[[], object], queries: Queries) -> tuple[list[Any], int]:
    """The reads that are wrong after a write, and how many were not read anew."""
    for read in SHAPES.values():
        try:
            read(cached)
        except Exception:
            continue
    write()
    stale, kept = [], 0
    for shape, read in SHAPES.items():
        hits = zoocache.stats()["hits"]
        with queries() as captured:
            got = outcome(read, cached)
        if zoocache.stats()["hits"] == hits and len(captured):
            continue  # all of it was just read from the database
        kept += not len(captured)
        expected = outcome(read, plain)
        if got != expected:
            stale.append((shape, "expected", expected, "got", got))
    return stale, kept


@pytest.mark.parametrize("group", GROUPS)
def test_no_read_is_stale_after(
    group: str, db: Any, queries: Queries, evidence: Callable[..., None]
) -> None:
    cells = total = 0
    unknown: list[str] = []
    wrong = []
    writes = {name: write for name, write in WRITES.items() if _group(name) == group}
    if db.vendor != "sqlite" and group in ORM and not os.environ.get("ZOOCACHE_TEST_FULL"):
        # Their tags are the same on every database: a third of them says as much.
        writes = dict(list(writes.items())[::3])
    for name, write in writes.items():
        empty(db)
        zoocache.clear()
        with transaction.atomic(using=db.alias):
            stock.fill()
        stale, kept = _stale_after(partial(_if_known, db, write, unknown), queries)
        wrong += [(name, *cell) for cell in stale]
        cells += len(SHAPES)
        total += kept
        if name == "nothing":
            assert kept == len(SHAPES)
    assert not wrong, "\n".join(str(cell)[:2000] for cell in wrong)
    assert len(unknown) <= len(writes) / 2, unknown
    evidence(f"stale reads after {group} on {db.vendor}: 0", cells=cells, kept=total)


def _if_known(db: Any, write: Callable[[], object], refused: list[str]) -> None:
    """Writes, unless MySQL does not know the statement; reads are compared all the same."""
    try:
        write()
    except (NotSupportedError, ProgrammingError) as error:
        if db.vendor != "mysql":
            raise
        refused.append(str(error))


# What a write leaves alone: the cache is not just emptied.


@pytest.fixture
def shop(db: Any, queries: Queries) -> Iterator[Callable[..., None]]:
    """`shop(write, kept=[...], dropped=[...])` primes, writes, and asserts which reads are hits."""
    stock.fill()

    def check(write: Callable[[], object], *, kept: list[str], dropped: list[str]) -> None:
        for name in (*kept, *dropped):
            outcome(READS[name], cached)
        write()
        hits = []
        for name in (*kept, *dropped):
            with queries() as captured:
                outcome(READS[name], cached)
            hits += [name] if not len(captured) else []
        assert hits == kept

    return check


READS: dict[str, Callable[[Callable[[Any], Any]], Any]] = {
    "product 1": lambda M: M(Product).get(pk=1),
    "product 2": lambda M: M(Product).get(pk=2),
    "products 2, 3": lambda M: list(M(Product).filter(pk__in=[2, 3])),
    "count of 2, 3": lambda M: M(Product).filter(pk__in=[2, 3]).count(),
    "product 2, active": lambda M: list(M(Product).filter(pk=2, active=True).values("name")),
    "category 1": lambda M: list(M(Product).filter(category=1)),
    "category 2": lambda M: list(M(Product).filter(category=2)),
    "category 2, active": lambda M: list(M(Product).filter(category_id=2, active=True)[:2]),
    "category 3": lambda M: list(M(Product).filter(category=3)),
    "categories 2, 3": lambda M: list(M(Product).filter(category__in=[2, 3])),
    "store 1": lambda M: list(M(Product).filter(store=1)),
    "store 2": lambda M: list(M(Product).filter(store=2)),
    "all products": lambda M: list(M(Product).all()),
    "number of products": lambda M: M(Product).count(),
    "all categories": lambda M: list(M(Category).all()),
    "all tags": lambda M: list(M(Tag).all()),
    "tags of 1": lambda M: list(M(Tag).filter(product=1)),
    "parcel 1": lambda M: M(Parcel).get(pk=PARCELS[0]),
    "parcel 2": lambda M: M(Parcel).get(pk=PARCELS[1]),
    "in parcel 1": lambda M: list(M(Parcel).filter(inner=PARCELS[0])),
    "in parcel 2": lambda M: list(M(Parcel).filter(inner=PARCELS[1])),
    "absent product": lambda M: M(Product).get(pk=999),
    "books": lambda M: list(M(Book).all()),
}


def _saved(pk: int, **values: Any) -> Callable[[], None]:
    def save() -> None:
        product = Product.objects.get(pk=pk)
        for name, value in values.items():
            setattr(product, name, value)
        product.save()

    return save


def test_saving_a_row_leaves_other_rows_and_lists_alone(shop: Any) -> None:
    """Product 4 is in category 1 and store 1."""
    shop(
        _saved(4, name="x"),
        kept=[
            "product 1", "product 2", "products 2, 3", "count of 2, 3", "product 2, active",
            "category 2", "category 2, active", "category 3", "categories 2, 3", "store 2",
            "all categories", "all tags", "parcel 1", "absent product",
        ],
        dropped=["category 1", "store 1", "all products", "number of products", "books"],
    )  # fmt: skip


def test_moving_a_row_drops_both_lists(shop: Any) -> None:
    shop(
        _saved(4, category_id=3),
        kept=["product 2", "category 2"],
        dropped=["category 1", "category 3", "categories 2, 3"],
    )


def test_a_new_row_drops_its_list_and_what_lacked_it(shop: Any) -> None:
    shop(
        lambda: Product.objects.create(name="new", category_id=1, store_id=1),
        kept=["product 1", "products 2, 3", "category 2", "category 3", "store 2", "all tags"],
        dropped=["category 1", "store 1", "all products", "absent product", "count of 2, 3"],
    )


def test_deleting_a_row(shop: Any, db: Any) -> None:
    # Not delete(): that sets `related` to NULL in rows that it does not know.
    shop(
        lambda: Product.objects.filter(pk=4)._raw_delete(db.alias),
        kept=["product 1", "products 2, 3", "category 2", "category 3", "store 2"],
        dropped=["category 1", "store 1", "all products", "books"],
    )


def test_an_update_of_pinned_rows(shop: Any) -> None:
    shop(
        lambda: Product.objects.filter(pk__in=[1, 4]).update(name="x"),
        kept=["product 2", "products 2, 3", "count of 2, 3", "all categories"],
        dropped=["product 1", "all products", "category 1"],
    )


def test_an_update_of_unknown_rows_drops_every_row_of_the_table(shop: Any) -> None:
    shop(
        lambda: Product.objects.filter(active=True).update(name="x"),
        kept=["all categories", "all tags", "parcel 1"],
        dropped=["product 1", "product 2", "category 2", "all products"],
    )


def test_rows_with_uuid_keys(shop: Any) -> None:
    shop(
        lambda: Parcel.objects.filter(pk=PARCELS[1]).update(label="x"),
        kept=["parcel 1", "all products"],
        dropped=["parcel 2", "in parcel 1", "in parcel 2"],
    )
    shop(
        lambda: Parcel.objects.get(pk=PARCELS[1]).save(),
        kept=["parcel 1", "in parcel 2"],
        dropped=["parcel 2", "in parcel 1"],
    )


def test_raw_sql_drops_its_tables_only(shop: Any, db: Any) -> None:
    def write() -> None:
        with db.cursor() as cursor:
            cursor.execute("UPDATE shop_product SET name = 'x' WHERE id = 1")

    shop(write, kept=["all categories", "all tags", "parcel 1"], dropped=["product 2", "books"])
