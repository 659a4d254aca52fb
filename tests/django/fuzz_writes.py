"""Writes that the directed generators are after: keys by expression, the many-to-many table,
inheritance, proxies, rows that are not there yet, raw SQL, what on_delete does, transactions."""

from __future__ import annotations

from functools import cache
from typing import Any

from django.apps import apps
from django.db import connections
from django.db.migrations.state import ProjectState
from django.db.models import Case, F, Subquery, When
from fuzz_engine import Block, sql, stocks, vendor
from fuzz_steps import (
    books,
    categories,
    category_renames,
    creates,
    moves,
    one,
    pks,
    raw_moves,
    some_category,
    step,
    taggings,
    toggles,
)
from hypothesis import strategies as st
from shop import routing
from shop.models import Book, Brand, Category, Detail, Discount, Product, Store, Tag

P, C = Product, Category

# Foreign keys


def _key_by_expression(p: Any) -> None:
    pk, how = p
    product = P.objects.filter(pk=pk).first()
    if product is None:
        return
    if how == "save":
        product.category_id = F("store_id")
        product.save()
    elif how == "save some":
        product.category_id = F("related_id")
        product.save(update_fields=["category"])
    elif how == "case":
        P.objects.update(category=Case(When(pk=pk, then=F("store")), default=F("category")))
    elif how == "subquery":
        rank = Category.objects.filter(rank=pk).values("pk")[:1]
        P.objects.filter(pk=pk).update(category=Subquery(rank))
    elif how == "bulk":
        product.category_id = F("store_id")
        P.objects.bulk_update([product], ["category"])
    else:
        P.objects.filter(pk=pk).update(category=F("store"), active=True)


expressed_keys = step(
    _key_by_expression,
    st.tuples(pks, st.sampled_from(["save", "save some", "case", "subquery", "bulk", "update"])),
)


def _save_all(p: Any) -> None:
    """All columns: the writer names the new category only, if there is one."""
    pk, moves, category = p
    product = P.objects.filter(pk=pk).first()
    if product:
        product.active = not product.active
        product.stock = 0 if product.stock else 3
        if moves:
            product.category_id = category
        product.save()


whole_saves = step(_save_all, st.tuples(pks, st.booleans(), some_category))


def _toggle_deferred(p: Any) -> None:
    pk, loaded, stock = p
    product = P.objects.only(*loaded).filter(pk=pk).first()
    if product is None:
        return
    if "active" in loaded:
        product.active = not product.active
    if "stock" in loaded:
        product.stock = stock
    if "name" in loaded:
        product.name = "a" if product.name != "a" else "b"
    product.save()


deferred_toggles = step(
    _toggle_deferred,
    st.tuples(
        pks,
        st.sampled_from([["active"], ["stock"], ["name"], ["active", "stock", "store"]]),
        stocks,
    ),
)

# Many to many


def _tags_of(pk: int) -> Any:
    return P(pk=pk).tags


def _products_of(pk: int) -> Any:
    return Tag(pk=pk).product_set


tags = st.integers(1, 2)
many_to_many = st.one_of(
    step(lambda p: _tags_of(p[0]).add(p[1]), st.tuples(pks, tags)),
    step(lambda p: _tags_of(p[0]).remove(p[1]), st.tuples(pks, tags)),
    step(lambda p: _tags_of(p[0]).set([p[1]]), st.tuples(pks, tags)),
    step(lambda pk: _tags_of(pk).clear(), pks),
    step(lambda pk: _tags_of(pk).create(name="red"), pks),
    step(lambda p: _products_of(p[0]).add(p[1]), st.tuples(tags, pks)),
    step(lambda p: _products_of(p[0]).set([p[1]]), st.tuples(tags, pks)),
    step(lambda pk: _products_of(pk).clear(), tags),
    step(lambda pk: P.tags.through.objects.filter(tag=pk).delete(), tags),
    step(lambda pk: P.tags.through.objects.update(tag=pk), tags),
    step(lambda p: Tag.objects.filter(pk=p).update(name="b"), tags),
)


def put_tags() -> None:
    through = P.tags.through
    pairs = [(1, 1), (2, 1), (2, 2), (3, 2)]
    through.objects.bulk_create(through(product_id=p, tag_id=t) for p, t in pairs)


# Inheritance


def put_books() -> None:
    Book.objects.create(pk=11, name="a", category_id=1, stock=2, author="x", shelf_id=1)
    Book.objects.create(pk=12, name="b", category_id=2, stock=3, author="y", related_id=11)


def _save_book(p: Any) -> None:
    pk, fields, changes = p
    book = Book.objects.filter(pk=pk).first()
    for name, value in changes.items() if book else ():
        setattr(book, name, value)
    if book:
        book.save(update_fields=fields)


book_keys = st.sampled_from([11, 12])
of_parents_table = st.fixed_dictionaries(
    {}, optional={"name": st.sampled_from("ac"), "stock": stocks, "category_id": some_category}
)
book_writes = st.one_of(
    step(
        _save_book,
        st.tuples(
            book_keys,
            st.sampled_from([None, ["name"], ["stock", "author"], ["category"]]),
            of_parents_table,
        ),
    ),
    step(lambda p: P.objects.filter(pk=p[0]).update(stock=p[1]), st.tuples(book_keys, stocks)),
    step(lambda p: P.objects.filter(pk=p[0]).update(category=p[1]), st.tuples(book_keys, pks)),
    step(lambda p: Book.objects.filter(author="x").update(**p, shelf=2), of_parents_table),
    step(lambda pk: Book.objects.filter(pk=pk).delete(), book_keys),
    step(lambda pk: Book(pk=pk).delete(keep_parents=True), book_keys),
    step(lambda pk: Discount.objects.filter(pk=pk).update(name="c"), book_keys),
    one(lambda: Store.objects.filter(pk=1).update(name="z")),
)

# Proxies and historical models


@cache
def _history() -> Any:
    return ProjectState.from_apps(apps).apps


def _historical(p: Any) -> None:
    pk, how, category = p
    model = _history().get_model("shop", "Product").objects.using(routing.active)
    if how == "update":
        model.filter(pk=pk).update(category_id=category)
    elif how == "create":
        model.create(name="a", category_id=category)
    elif how == "delete":
        model.filter(pk=pk).delete()
    else:
        for product in model.filter(pk=pk):
            product.stock = 3
            product.save()


historical = step(
    _historical,
    st.tuples(pks, st.sampled_from(["update", "save", "create", "delete"]), some_category),
)


def _proxied(p: Any) -> None:
    pk, how, category = p
    if how == "update":
        Discount.objects.filter(pk=pk).update(category=category)
    elif how == "create":
        Discount.objects.create(name="a", category_id=category)
    elif how == "bulk":
        Discount.objects.bulk_create([Discount(name="b", category_id=category)])
    else:
        for product in Discount.objects.filter(pk=pk):
            product.category_id = category
            product.save()


proxied = step(
    _proxied, st.tuples(pks, st.sampled_from(["update", "create", "bulk", "save"]), some_category)
)

# Rows that are not there yet


def _upsert(p: Any) -> None:
    pk, changes, fields = p
    unique = {} if vendor() == "mysql" else {"unique_fields": ["id"]}
    P.objects.bulk_create(
        [P(pk=pk, **changes), P(name="upserted", category_id=3)],
        update_conflicts=True,
        update_fields=fields,
        **unique,
    )


def _brand(p: Any) -> None:
    code, name = p
    unique = {} if vendor() == "mysql" else {"unique_fields": ["code"]}
    Brand.objects.bulk_create(
        [Brand(code=code, name=name)], update_conflicts=True, update_fields=["name"], **unique
    )


upserts = st.one_of(
    *[
        step(
            _upsert,
            st.tuples(
                pks,
                st.fixed_dictionaries({"name": st.sampled_from("abc"), "category_id": categories}),
                st.sampled_from([["name"], ["category"], ["name", "category"]]),
            ),
        )
    ]
    * 3,
    step(_brand, st.tuples(st.sampled_from("XY"), st.sampled_from("abc"))),
    step(
        lambda p: P.objects.bulk_create([P(pk=p, name="b", category_id=3)], ignore_conflicts=True),
        st.integers(3, 7),
    ),
    step(
        lambda p: P.objects.update_or_create(pk=p, defaults={"name": "c", "category_id": 2}),
        st.integers(4, 6),
    ),
    step(lambda c: P.objects.get_or_create(name="got", defaults={"category_id": c}), categories),
)
inserts = st.one_of(
    creates,
    step(lambda n: P.objects.create(name="c", category_id=3, stock=n), stocks),
    books,
    step(lambda c: P.objects.bulk_create([P(name="a", category_id=c)]), categories),
    step(
        lambda c: P.objects.bulk_create([P(name="a", category_id=c)], ignore_conflicts=True),
        categories,
    ),
    step(lambda pk: P.objects.create(pk=pk, name="b", active=True), st.sampled_from([6, 99])),
    step(
        lambda c: sql(
            "INSERT INTO shop_product (name, price, active, data, category_id) "
            "VALUES ('c', 1, %s, '{}', %s)",
            [True, c],
        ),
        categories,
    ),
)

# SQL

RAW = {
    "REPLACE": {
        "postgresql": "INSERT INTO shop_tag (id, name) VALUES (1, 'c') "
        "ON CONFLICT (id) DO UPDATE SET name = excluded.name",
        "": "REPLACE INTO shop_tag (id, name) VALUES (1, 'c')",
    },
    "TRUNCATE": {"sqlite": "DELETE FROM shop_detail", "": "TRUNCATE shop_detail"},
    "WITH": {
        "mysql": "UPDATE shop_product p JOIN (SELECT 1 AS id) x ON x.id = p.id SET p.name = 'c'",
        "": "WITH x AS (SELECT 1 AS id) UPDATE shop_product SET name = 'c' "
        "WHERE id IN (SELECT id FROM x)",
    },
    "WITH, twice": {
        "postgresql": "WITH x AS (UPDATE shop_product SET name = 'd' WHERE id = 2 RETURNING id) "
        "UPDATE shop_category SET name = 'd' WHERE id IN (SELECT id FROM x)",
        "mysql": "UPDATE shop_product p, shop_category c SET p.name = 'd', c.name = 'd' "
        "WHERE p.id = 2 AND c.id = 2",
        "": "WITH x AS (SELECT 2 AS id) UPDATE shop_category SET name = 'd' "
        "WHERE id IN (SELECT id FROM x)",
    },
    "INSERT SELECT": {"": "INSERT INTO shop_tag (name) SELECT name FROM shop_category"},
    "MERGE": {
        "postgresql": "MERGE INTO shop_tag t USING shop_category c ON t.id = c.id "
        "WHEN MATCHED THEN UPDATE SET name = c.name "
        "WHEN NOT MATCHED THEN INSERT (name) VALUES (c.name)",
        "": "DELETE FROM shop_tag WHERE id = 2",
    },
    "quoted": {
        "mysql": "update `Shop_Product` set `stock` = 1".replace("Shop_Product", "shop_product"),
        "": 'update "shop_product" set "stock" = 1',
    },
}


def _raw_sql(name: str) -> None:
    by_vendor = RAW[name]
    sql(by_vendor.get(vendor()) or by_vendor[""])


def _many(values: list[Any]) -> None:
    with connections[routing.active].cursor() as cursor:
        cursor.executemany("UPDATE shop_product SET stock = %s WHERE id = %s", values)


raw = st.one_of(
    *[step(_raw_sql, st.sampled_from(sorted(RAW)))] * 3,
    step(_many, st.lists(st.tuples(st.integers(0, 3), pks), min_size=1, max_size=2)),
    raw_moves,
)


def put_details() -> None:
    Detail.objects.bulk_create(Detail(product_id=pk, text="a") for pk in (1, 2))


# on_delete


def put_everything() -> None:
    put_details()
    put_tags()
    Brand.objects.create(code="X", name="x")
    P.objects.filter(pk__in=[1, 3]).update(brand="X")


on_delete = st.one_of(
    step(lambda pk: Store(pk=pk).delete(), st.integers(1, 2)),
    step(lambda pk: Store.objects.filter(pk=pk).delete(), st.integers(1, 2)),
    step(lambda pk: C.objects.filter(pk=pk).delete(), st.integers(1, 3)),
    step(lambda pk: P.objects.filter(pk=pk).delete(), pks),
    step(lambda pk: P.objects.filter(pk=pk).delete(), st.integers(1, 2)),
    step(lambda pk: Tag.objects.filter(pk=pk).delete(), tags),
    one(lambda: Brand.objects.filter(code="X").delete()),
)

# Transactions

parts = st.one_of(moves, toggles, creates, category_renames, taggings)
blocks = st.recursive(
    parts,
    lambda inner: st.builds(Block, st.lists(inner, min_size=1, max_size=3), st.booleans()),
    max_leaves=4,
)
transactions = st.builds(
    Block,
    st.lists(blocks, min_size=1, max_size=3),
    st.sampled_from([True, True, False]),
    st.sampled_from(["atomic", "atomic", "raw", "no autocommit"]),
)
