"""The catalogue of writes: name -> function. All of them end committed."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from django.core.management import call_command
from django.db import connections, transaction
from django.db.migrations.operations import RunPython
from django.db.migrations.state import ProjectState
from django.db.models import Case, F, OuterRef, Subquery, When

from shop import routing
from shop.fields import Money, clerk
from shop.models import (
    ActiveProduct,
    Book,
    Both,
    Brand,
    Category,
    Detail,
    Discount,
    First,
    Leaf,
    Migrated,
    Parcel,
    Payment,
    Product,
    Quick,
    Right,
    Slug,
    Soft,
    Store,
    Tag,
)
from shop.routing import atomic
from shop.stock import PARCELS

FIXTURE = Path(__file__).with_name("fixtures") / "delivery.json"

Write = Callable[[], object]


def connection():
    return connections[routing.active]


def sql(statement: str, params: object = None, *, many: bool = False) -> None:
    with connection().cursor() as cursor:
        (cursor.executemany if many else cursor.execute)(statement, params)


def _changed(model, pk, **values):
    row = model.objects.get(pk=pk)
    for name, value in values.items():
        setattr(row, name, value)
    return row


def _save(model, pk, update_fields=None, **values):
    _changed(model, pk, **values).save(update_fields=update_fields)


def _save_deferred():
    product = Product.objects.only("name").get(pk=2)
    product.name = "renamed"
    product.save()


def _save_deferred_enters():
    product = Product.objects.only("stock").get(pk=4)
    product.stock = 50
    product.save()


def _save_deferred_key():
    """The key is moved behind the writer's back, and is not among what it loaded."""
    product = Product.objects.defer("category").get(pk=2)
    product.active = not product.active
    product.save()


def _change_key_save_other():
    product = Product.objects.get(pk=3)
    product.category_id = 4
    product.active = not product.active
    product.save(update_fields=["active"])


def _save_f():
    product = Product.objects.get(pk=1)
    product.stock = F("stock") + 1
    product.save()


def _save_key_by_f():
    product = Product.objects.get(pk=3)
    product.category_id = F("store_id")
    product.save()


def _bulk_create_ignoring():
    Tag.objects.bulk_create(
        [Tag(pk=1, name="there"), Tag(pk=50, name="fresh")], ignore_conflicts=True
    )
    Product.objects.bulk_create(
        [Product(pk=1, name="there", category_id=2), Product(pk=50, name="fresh", category_id=3)],
        ignore_conflicts=True,
    )


def _upsert():
    Product.objects.bulk_create(
        [
            Product(pk=1, name="upsert", category_id=3, day=datetime.date(2024, 1, 9)),
            Product(name="upsert new", category_id=3),
        ],
        update_conflicts=True,
        update_fields=["name", "category"],
        unique_fields=["id"],
    )


def _bulk_update():
    rows = list(Product.objects.filter(pk__in=[1, 2, 3]))
    for row in rows:
        row.stock = 5
        row.category_id = 3
    Product.objects.bulk_update(rows, ["stock", "category"], batch_size=2)


def _historical(apps, schema_editor):
    model = apps.get_model("shop", "Product")
    alias = schema_editor.connection.alias
    model.objects.using(alias).filter(active=False).update(category=3)
    model.objects.using(alias).create(name="historical", category_id=1)
    apps.get_model("shop", "Category").objects.using(alias).get(pk=1).delete()


def _migrate():
    from django.apps import apps

    state = ProjectState.from_apps(apps)
    with connection().schema_editor(atomic=True) as editor:
        RunPython(_historical).database_forwards("shop", editor, state, state)


def _load():
    call_command("loaddata", str(FIXTURE), database=routing.active, verbosity=0)


def _savepoints():
    with atomic():
        Product.objects.filter(pk=1).update(name="outer")
        try:
            with atomic():
                Product.objects.filter(pk=2).update(name="inner")
                raise LookupError
        except LookupError:
            pass
        with atomic():
            Category.objects.filter(pk=1).update(name="kept")


def _by_hand():
    with connection().cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("UPDATE shop_product SET name = 'by hand', category_id = 3 WHERE id = 1")
        Tag.objects.filter(pk=1).update(name="by hand")
        cursor.execute("COMMIT")


def _by_savepoint():
    with connection().cursor() as cursor:
        if connection().vendor == "sqlite":  # begins and ends a transaction there
            cursor.execute("SAVEPOINT a")
            cursor.execute("UPDATE shop_product SET name = 'by savepoint'")
            cursor.execute("RELEASE a")


def _without_autocommit():
    transaction.set_autocommit(False, using=routing.active)
    try:
        Product.objects.filter(pk=1).update(name="no autocommit")
        transaction.commit(using=routing.active)
        Category.objects.filter(pk=2).update(name="no autocommit")
        transaction.commit(using=routing.active)
    finally:
        transaction.set_autocommit(True, using=routing.active)


def _autocommit_on_commits():
    transaction.set_autocommit(False, using=routing.active)
    Product.objects.filter(pk=1).update(name="committed by the switch")
    if connection().vendor != "sqlite":
        transaction.commit(using=routing.active)
    transaction.set_autocommit(True, using=routing.active)


def _returning():
    with connection().cursor() as cursor:
        cursor.execute("UPDATE shop_product SET stock = 1, category_id = 3 RETURNING id")
        cursor.fetchall()
        cursor.execute("INSERT INTO shop_tag (name) VALUES ('a'), ('b') RETURNING id")
        for _ in cursor:
            pass
        cursor.execute("DELETE FROM shop_product_tags RETURNING id")
        cursor.fetchone()


def _script():
    statement = "UPDATE shop_product SET name = 'script'; DELETE FROM shop_product_tags;"
    with connection().cursor() as cursor:
        if connection().vendor == "sqlite":
            cursor.executescript(statement)
        else:
            cursor.execute(statement)


def _copy():
    with connection().cursor() as cursor:
        if connection().vendor == "postgresql":
            with cursor.copy("COPY shop_tag (name) FROM STDIN") as copy:
                copy.write_row(("copied",))
        else:
            cursor.execute("INSERT INTO shop_tag (name) SELECT name FROM shop_category")


def _procedure():
    with connection().cursor() as cursor:
        if connection().vendor == "postgresql":
            cursor.execute(
                "CREATE OR REPLACE FUNCTION shop_rename() RETURNS int LANGUAGE sql AS "
                "$$ UPDATE shop_product SET name = 'procedure'; SELECT 1 $$"
            )
            cursor.callproc("shop_rename")
        else:
            cursor.execute("UPDATE shop_product SET name = 'procedure'")


def _composed():
    if connection().vendor == "postgresql":
        from psycopg import sql as composed

        sql(
            composed.SQL("UPDATE {} SET name = {}").format(
                composed.Identifier("shop_product"), composed.Literal("composed \\ name")
            )
        )
    else:
        sql("/* # */ UPDATE shop_product SET name = 'composed \\ name'")


def _own_keys():
    clerk.pk = 2
    try:
        Payment.objects.create(amount=Money(7, "EUR"))
    finally:
        clerk.pk = None


def _through_related_managers():
    category = Category.objects.get(pk=3)
    category.product_set.add(Product.objects.get(pk=1), Product.objects.get(pk=2))
    category.product_set.create(name="by relation")
    store = Store.objects.get(pk=1)
    store.product_set.remove(*store.product_set.all()[:1])
    Store.objects.get(pk=2).product_set.clear()


def _set_related():
    Store.objects.get(pk=1).product_set.set(Product.objects.filter(pk__in=[1, 7]))


def _with_cached_manager():
    _product, created = Product.cached.get_or_create(name="got", defaults={"category_id": 2})
    assert created
    Product.cached.update_or_create(name="got", defaults={"category_id": 1})
    Product.cached.filter(pk=3).update(stock=99)
    Product.cached.filter(pk=4).delete()
    Product.cached.bulk_create([Product(name="bulk", category_id=3)])


WRITES: dict[str, Write] = {
    "nothing": lambda: None,
    "save": lambda: _save(Product, 1, name="saved", stock=None),
    "save unchanged": lambda: Product.objects.get(pk=1).save(),
    "save moves": lambda: _save(Product, 1, category_id=3),
    "save moves the first": lambda: _save(Product, 4, category_id=2),
    "save moves the last": lambda: _save(Product, 9, category_id=2),
    "save moves to null": lambda: _save(Product, 1, category_id=None),
    "save moves from null": lambda: _save(Product, 3, category_id=2, active=True),
    "save text key": lambda: _save(Product, 1, category_id="3"),
    "save update_fields": lambda: _save(Product, 3, ["active"], active=True),
    "save update_fields key": lambda: _save(Product, 3, ["category"], category_id=1),
    "save another update_fields": _change_key_save_other,
    "save update_fields enters": lambda: _save(Product, 4, ["stock"], stock=50),
    "save update_fields leaves": lambda: _save(Product, 9, ["active"], active=False),
    "save deferred enters": _save_deferred_enters,
    "save self related": lambda: _save(Product, 1, ["active"], active=False),
    "save deferred": _save_deferred,
    "save deferred key": _save_deferred_key,
    "save F": _save_f,
    "save key by F": _save_key_by_f,
    "save category": lambda: _save(Category, 1, name="z", rank=9),
    "save store": lambda: _save(Store, 1, name="z"),
    "save tag": lambda: _save(Tag, 1, name="z"),
    "save detail": lambda: _save(Detail, 1, text="z"),
    "save brand code": lambda: Brand.objects.filter(name="nobody").update(code="x"),
    "save slug": lambda: _save(Slug, "a:b", note="z"),
    "save parcel": lambda: _save(Parcel, PARCELS[1], inner_id=None),
    "save child": lambda: _save(Book, 9, name="z", author="z", shelf_id=2),
    "save child's parent": lambda: _save(Product, 9, name="z", category_id=2),
    "save child partly": lambda: _save(Book, 9, ["name"], name="z"),
    "save proxy": lambda: _save(Discount, 1, category_id=3, price=Decimal("9.99")),
    "save money": lambda: _save(Payment, 1, amount=Money(1, "EUR")),
    "save both moves": lambda: _save(Both, 1, store_id=2),
    "save both": lambda: Both.objects.filter(name="both").update(name="z", store=2),
    "create": lambda: Product.objects.create(name="new", category_id=1, active=True),
    "create with pk": lambda: Product.objects.create(pk=999, name="new", category_id=3),
    "create by text": lambda: Product.objects.create(pk="999", name="new", category_id="3"),
    "create category": lambda: Category.objects.create(pk=999, name="new", parent_id=1),
    "create parcel": lambda: Parcel.objects.create(id=PARCELS[2], label="n", inner_id=PARCELS[0]),
    "create parcel by text": lambda: Parcel.objects.create(id=str(PARCELS[2]), label="n"),
    "create store": lambda: Store.objects.create(name="new"),
    "create detail": lambda: Detail.objects.create(product_id=3, text="new"),
    "create child": lambda: Book.objects.create(name="new", category_id=1, author="x", shelf_id=1),
    "create proxy": lambda: Discount.objects.create(name="new", category_id=1),
    "create own keys": _own_keys,
    "create others": lambda: (
        Leaf.objects.create(name="n"),
        Quick.objects.create(name="n"),
        First.objects.create(name="n"),
        Migrated.objects.create(name="n"),
        Slug.objects.create(slug="x"),
        Both.objects.create(name="n", store_id=1),
        Right.objects.create(),
    ),
    "delete": lambda: Product.objects.get(pk=1).delete(),
    "delete the first": lambda: Product.objects.filter(pk=8)._raw_delete(routing.active),
    "delete queryset": lambda: Product.objects.filter(active=False).delete(),
    "delete cascades": lambda: Category.objects.get(pk=1).delete(),
    "delete sets null": lambda: Store.objects.get(pk=1).delete(),
    "delete tag": lambda: Tag.objects.get(pk=1).delete(),
    "delete child": lambda: Book.objects.get(pk=9).delete(),
    "delete parent of child": lambda: Product.objects.filter(pk=9).delete(),
    "delete proxy": lambda: Discount.objects.filter(pk=1).delete(),
    "delete raw": lambda: Detail.objects.filter(pk=2)._raw_delete(routing.active),
    "delete everything": lambda: Product.objects.all().delete(),
    "delete softly": lambda: Soft.objects.all().delete(),
    "bulk_create": lambda: Product.objects.bulk_create(
        [Product(name="b1", category_id=1, store_id=1), Product(name="b2", category_id=3)]
    ),
    "bulk_create with pk": lambda: Product.objects.bulk_create(
        [Product(pk=999, name="b1", category_id=1, active=True)]
    ),
    "bulk_create proxy": lambda: Discount.objects.bulk_create(
        [Discount(name="b1", category_id=1), Discount(name="b2", category_id=3)]
    ),
    "bulk_create parcels": lambda: Parcel.objects.bulk_create(
        [Parcel(id=uuid.UUID(int=9), label="b", inner_id=PARCELS[0])]
    ),
    "bulk_create ignoring": _bulk_create_ignoring,
    "upsert": _upsert,
    "bulk_update": _bulk_update,
    "bulk_update enters": lambda: Product.objects.bulk_update(
        [Product(pk=4, stock=50), Product(pk=8, stock=60)], ["stock"]
    ),
    "update": lambda: Product.objects.update(name="u"),
    "update enters": lambda: Product.objects.filter(pk=4).update(stock=50),
    "update enters the first": lambda: Product.objects.filter(pk=8).update(stock=500, name="_"),
    "update one": lambda: Product.objects.filter(pk=1).update(name="u", stock=7),
    "update key": lambda: Product.objects.filter(pk__in=[1, 3]).update(category=3),
    "update key of the first": lambda: Product.objects.filter(pk=4).update(category=2),
    "update key of the last": lambda: Product.objects.filter(pk=9).update(category=2),
    "update key by instance": lambda: Product.objects.filter(pk=1).update(
        category=Category.objects.get(pk=3)
    ),
    "update key to null": lambda: Product.objects.filter(category=1).update(category=None),
    "update key by F": lambda: Product.objects.filter(pk=3).update(category=F("store")),
    "update key by case": lambda: Product.objects.update(
        category=Case(When(pk=3, then=F("related")), default=F("category"))
    ),
    "update key by subquery": lambda: Product.objects.filter(pk=3).update(
        category=Subquery(Category.objects.filter(rank=0).values("pk")[:1])
    ),
    "update F": lambda: Product.objects.filter(category=1).update(stock=F("stock") + 1),
    "update of joined": lambda: Product.objects.filter(category__name="a").update(active=False),
    "update by subquery": lambda: Product.objects.exclude(category=None).update(
        name=Subquery(Category.objects.filter(pk=OuterRef("category")).values("name")[:1])
    ),
    "update proxy": lambda: Discount.objects.filter(pk=1).update(category=3),
    "update proxy in": lambda: Discount.objects.filter(pk=3).update(category=1),
    "update both moves": lambda: Both.objects.filter(pk=1).update(store=2),
    "update child": lambda: Book.objects.filter(author="x").update(name="u", shelf=2, category=2),
    "update child's parent's field": lambda: Book.objects.update(name="u"),
    "update category": lambda: Category.objects.update(name=F("rank")),
    "update parent": lambda: Category.objects.filter(pk=2).update(parent=1),
    "update json": lambda: Product.objects.filter(pk=3).update(data={"n": 3, "x": [True]}),
    "update softly": lambda: Soft.objects.filter(gone=False).update(gone=True),
    "update text key": lambda: Product.objects.filter(pk=1).update(brand="ACME"),
    "update primary key": lambda: Slug.objects.filter(pk="a:b").update(slug="x"),
    "get_or_create": lambda: Product.objects.get_or_create(
        name="new", defaults={"category_id": 1, "active": True}
    ),
    "update_or_create": lambda: (
        Product.objects.update_or_create(name="product 1", defaults={"category_id": 3}),
        Product.objects.update_or_create(name="new", defaults={"category_id": 1}),
    ),
    "cached manager writes": _with_cached_manager,
    "related managers": _through_related_managers,
    "related set": _set_related,
    "m2m add": lambda: Product.objects.get(pk=4).tags.add(1, 2),
    "m2m add reverse": lambda: Tag.objects.get(pk=1).product_set.add(4),
    "m2m create": lambda: Product.objects.get(pk=4).tags.create(name="made"),
    "m2m remove": lambda: Product.objects.get(pk=3).tags.remove(1),
    "m2m remove reverse": lambda: Tag.objects.get(pk=1).product_set.remove(3),
    "m2m set": lambda: Product.objects.get(pk=3).tags.set([3]),
    "m2m set reverse": lambda: Tag.objects.get(pk=3).product_set.set([1]),
    "m2m clear": lambda: Product.objects.get(pk=3).tags.clear(),
    "m2m clear reverse": lambda: Tag.objects.get(pk=1).product_set.clear(),
    "m2m through": lambda: Product.tags.through.objects.filter(tag=1).delete(),
    "view insert": lambda: (
        connection().vendor == "postgresql"
        and ActiveProduct.objects.filter(pk=1).update(name="through the view")
    ),
    "raw view update": lambda: (
        connection().vendor == "postgresql"
        and sql("UPDATE shop_activeproduct SET name = 'through the view'")
    ),
    "raw update": lambda: sql("UPDATE shop_product SET category_id = 3 WHERE id = 1"),
    "raw update quoted": lambda: sql('UPDATE "shop_product" SET "name" = %s', ["raw"]),
    "raw update case": lambda: sql("update Shop_Product set name = 'raw'"),
    "raw update comment": lambda: sql("/* \\ */ UPDATE shop_product SET name = 'raw' -- it's"),
    "raw insert": lambda: sql("INSERT INTO shop_tag (name) VALUES ('raw')"),
    "raw delete": lambda: sql("DELETE FROM shop_product_tags"),
    "raw cte": lambda: sql(
        "WITH x AS (SELECT 1 AS id) UPDATE shop_product SET name = 'cte' "
        "WHERE id IN (SELECT id FROM x)"
    ),
    "raw executemany": lambda: sql(
        "UPDATE shop_product SET stock = %s WHERE id = %s", [(1, 1), (2, 2)], many=True
    ),
    "raw returning": _returning,
    "raw script": _script,
    "raw copy": _copy,
    "raw procedure": _procedure,
    "raw composed": _composed,
    "raw transaction": _by_hand,
    "raw savepoint": _by_savepoint,
    "in atomic": lambda: _in_atomic(),
    "savepoints": _savepoints,
    "without autocommit": _without_autocommit,
    "autocommit on commits": _autocommit_on_commits,
    "migration": _migrate,
    "loaddata": _load,
}


def _in_atomic() -> None:
    with atomic():
        _save(Product, 1, category_id=3, name="atomic")
        Category.objects.filter(pk=2).delete()
        list(Product.cached.filter(category=1))
        list(Category.cached.all())
