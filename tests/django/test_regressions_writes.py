"""Writes whose invalidation was once lost or late: each test is named after what broke."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.db import transaction
from django.db.models import F
from shop import stock
from shop.models import Book, Category, Product
from shop.workers import elsewhere

from zoocache import cacheable, invalidate
from zoocache.contrib.django.connection import state_of
from zoocache.contrib.django.written import MAX_TAGS

IsCached = Callable[[Callable[[], Any]], bool]


@pytest.fixture
def product(db: Any) -> Product:
    return Product.objects.create(name="old", category=Category.objects.create(name="a"))


def reader_of(product: Product) -> Callable[[], str]:
    """The product's name as another worker sees it; it is in the cache."""

    def read() -> str:
        return elsewhere(lambda: Product.cached.get(pk=product.pk).name)

    assert read() == "old"
    return read


def rename(product: Product, name: str) -> None:
    Product.objects.filter(pk=product.pk).update(name=name)


# Statements


def models_of_the_shop() -> list[Any]:
    models = apps.get_app_config("shop").get_models(include_auto_created=True)
    return [model for model in models if model._meta.managed and model._meta.app_label == "shop"]


def test_update_without_a_filter(db: Any) -> None:
    """Nothing has given the table an alias yet when such a write is looked at."""
    stock.fill()
    for model in models_of_the_shop():
        before, queryset = keys(model), model._base_manager.order_by("pk")
        if db.vendor == "mysql" and model._meta.parents:
            continue  # Django writes no SQL there that it takes
        together = set().union(*model._meta.unique_together)
        for field in model._meta.concrete_fields:
            if not field.unique and field.name not in together:
                column = queryset.values_list(field.attname, flat=True)
                first = {field.attname: column.first()}
                assert model._base_manager.update(**first) == len(before)
                assert len(set(map(str, column.all()))) <= 1, field
                assert queryset.update(**{field.attname: F(field.attname)}) == len(before)
        assert keys(model) == before


def test_delete_without_a_filter(db: Any) -> None:
    stock.fill()
    for model in models_of_the_shop():
        before = keys(model)
        for delete in ("delete", "_raw_delete"):
            if delete == "_raw_delete" and (model._meta.related_objects or model._meta.parents):
                continue
            queryset = model._base_manager.all()
            with transaction.atomic(using=db.alias):
                queryset.delete() if delete == "delete" else queryset._raw_delete(db.alias)
                assert keys(model) == []
                transaction.set_rollback(True, using=db.alias)
            assert keys(model) == before
    Product.objects.all().delete()
    assert keys(Product) == []


def keys(model: Any) -> list[object]:
    """From the cache, where the model has a manager of ours."""
    manager = getattr(model, "cached", model._base_manager)
    return sorted(manager.values_list("pk", flat=True), key=str)


def test_a_column_inherited_from_a_parents_table(db: Any) -> None:
    book = Book.objects.create(name="old", author="x")
    for function in (names_of_books, name_of_book):
        assert function(book.pk) == "old"
        Book.objects.filter(pk=book.pk).update(name="new")
        assert function(book.pk) == "new"
        book.save(update_fields=["name"])
        assert function(book.pk) == "old"


@cacheable(deps=["Book"])
def names_of_books(pk: int) -> str:
    return str(Book.objects.get(pk=pk).name)


@cacheable(deps=lambda pk: [f"Book:{pk}"])
def name_of_book(pk: int) -> str:
    return str(Book.objects.get(pk=pk).name)


@cacheable(deps=lambda pk: [f"Product:{pk}"])
def exists(pk: int) -> bool:
    return bool(Product.objects.filter(pk=pk).exists())


def test_an_absent_row_inserted_by_what_tells_no_keys(product: Product) -> None:
    absent = product.pk + 1
    assert exists(absent) is False
    Product.objects.bulk_create([Product(name="next")], ignore_conflicts=True)
    assert exists(absent) is True


# Cursors


def test_the_drivers_connection_on_a_cursor(sqlite: Any) -> None:
    """It can be called, too, but is no method of the cursor's."""
    with sqlite.cursor() as cursor:
        assert cursor.connection is sqlite.connection
        assert sqlite.ops.last_executed_query(cursor, "SELECT %s", (1,)) == "SELECT 1"
    assert not state_of(sqlite).in_transaction()


def _script(connection: Any) -> None:
    connection.cursor().executescript("UPDATE shop_category SET name = 'b'")


def _failing_script(connection: Any) -> None:
    with pytest.raises(Exception, match="no such table"):
        connection.cursor().executescript("UPDATE shop_nothing SET name = 'b'")


def _procedure(connection: Any) -> None:
    connection.cursor().callproc("now")


def _copy(connection: Any) -> None:
    with connection.cursor().copy("COPY shop_tag (name) FROM STDIN") as copy:
        copy.write_row(("x",))


@pytest.mark.parametrize(
    ("database", "call"),
    [
        ("sqlite", _script),
        ("sqlite", _failing_script),
        ("postgres", _procedure),
        ("postgres", _copy),
    ],
)
def test_a_dropped_cursor_that_ran_what_the_wrappers_do_not_see(
    request: pytest.FixtureRequest, database: str, call: Callable[[Any], None]
) -> None:
    connection = request.getfixturevalue(database)
    product = Product.objects.create(name="old")
    call(connection)
    read = reader_of(product)
    rename(product, "new")
    assert read() == "new"
    assert not state_of(connection).in_transaction()


def test_a_spent_returning_cursor_that_is_still_referenced(sqlite: Any) -> None:
    product = Product.objects.create(name="old", category=Category.objects.create(name="a"))
    read = reader_of(product)
    cursor = sqlite.cursor()
    cursor.execute("UPDATE shop_category SET name = 'b' RETURNING id")
    assert cursor.fetchone() == (product.category_id,)
    rename(product, "new")  # committed with its statement
    assert read() == "new"
    cursor.execute("SELECT 1")
    assert not state_of(sqlite).in_transaction()
    rename(product, "newer")
    assert read() == "newer"
    del cursor
    rename(product, "newest")
    assert read() == "newest"


def test_a_returning_cursor_that_outlives_its_connection(
    sqlite: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda error: printed.append(error.exc_value))
    cursor = sqlite.cursor()
    cursor.execute("UPDATE shop_category SET name = 'b' RETURNING id")
    sqlite.close()
    del cursor
    assert not printed


# Transactions


def test_the_first_statement_of_a_connection_without_autocommit(
    db: Any, product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the connection is there, its autocommit flag says nothing."""
    read = reader_of(product)
    db.close()
    with monkeypatch.context() as patch:
        patch.setitem(db.settings_dict, "AUTOCOMMIT", False)
        rename(product, "new")
        assert not db.autocommit
        assert read() == "old"  # and puts it into the cache once more
        transaction.commit(using=db.alias)
        assert read() == "new"
        db.close()


@cacheable(deps=["price-list"])
def price_list() -> str:
    return _prices[0]


_prices = [""]


@pytest.mark.parametrize("rows", [1, MAX_TAGS + 1])
def test_an_invalidation_by_hand_among_many_writes(db: Any, rows: int) -> None:
    _prices[0] = "old"
    assert elsewhere(price_list) == "old"
    with transaction.atomic(using=db.alias):
        invalidate("price-list")
        assert elsewhere(price_list) == "old"  # of what is committed, and kept
        Product.objects.bulk_create([Product(name="x") for _ in range(rows)])
        _prices[0] = "new"
    assert elsewhere(price_list) == "new"


@cacheable(deps=["Product"])
async def name_of_product(pk: int) -> str:
    return str((await Product.objects.aget(pk=pk)).name)


@cacheable(deps=["Product"])
async def name_of_cached_product(pk: int) -> str:
    return str((await Product.cached.aget(pk=pk)).name)


@pytest.mark.parametrize("function", [name_of_product, name_of_cached_product])
def test_an_own_uncommitted_write_behind_an_async_functions_hit(
    db: Any, product: Product, is_cached: IsCached, function: Callable[..., Any]
) -> None:
    """The function runs in a thread that does not own the connection."""

    def name() -> str:
        return str(async_to_sync(function)(product.pk))

    assert is_cached(name)
    for outcome in ("rolled back", "committed"):
        with transaction.atomic(using=db.alias):
            rename(product, "mine")
            assert name() == "mine"
            assert elsewhere(name) == "old"
            transaction.set_rollback(outcome == "rolled back", using=db.alias)
        expected = "old" if outcome == "rolled back" else "mine"
        assert name() == elsewhere(name) == expected
