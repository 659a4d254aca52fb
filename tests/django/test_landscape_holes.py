"""How other caches came to be wrong: what section 2 of docs/design/acceptance.md names."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.admin import AdminSite, ModelAdmin
from django.core.management import call_command
from django.db import connections, models
from django.db.backends.base import base
from django.db.models import Sum
from shop import routing, stock
from shop.models import Category, Product, Tag
from shop.routing import atomic
from shop.statements import traced
from shop.stock import name_of, rename

import zoocache
from zoocache.shm import path_of

Elsewhere = Callable[[Callable[[], Any]], Any]
IsCached = Callable[[Callable[[], Any]], bool]
Queries = Callable[..., Any]


def sql(statement: str, *params: Any) -> None:
    with connections[routing.active].cursor() as cursor:
        cursor.execute(statement, params or None)


# Reads


def test_iterators_never_hold_the_whole_result(postgres: Any) -> None:
    """The server is asked for so many rows at a time, and only when they are wanted."""
    stock.fill()

    def fetched(statements: list[str]) -> int:
        return sum("FETCH FORWARD 2" in text for text in statements)

    products = Product.cached.order_by("pk")
    with traced(postgres) as statements:
        rows = products.iterator(chunk_size=2)
        assert [next(rows).pk for _ in range(3)] == [1, 2, 3]
        rows.close()
    assert fetched(statements) == 2

    async def some() -> list[int]:
        found: list[int] = []
        async for product in products.aiterator(chunk_size=2):
            found.append(product.pk)
            if len(found) == 3:
                break
        return found

    with traced(postgres) as statements:
        assert async_to_sync(some)() == [1, 2, 3]
    assert fetched(statements) == 2


@pytest.mark.parametrize("how", ["only", "defer"])
def test_deferred_rows_are_filled_by_one_query_and_stay_deferred(
    how: str, shop: Any, queries: Queries
) -> None:
    rows = getattr(Product.cached.order_by("pk"), how)("name")
    with queries(1):
        first = list(rows.all())
    with queries(0):
        again = list(rows.all())
    for product, same in zip(first, again, strict=True):
        assert product.get_deferred_fields() == same.get_deferred_fields() != set()
        assert ("name" in same.get_deferred_fields()) == (how == "defer")
    with queries(1):  # as ever, when it is asked for
        assert (again[0].price > 0) if how == "only" else again[0].name


@pytest.mark.skipif(not hasattr(models, "FETCH_PEERS"), reason="fetch modes came with Django 6.1")
def test_fetch_modes_stay(sqlite: Any, queries: Queries) -> None:
    stock.fill()
    from django.core.exceptions import FieldFetchBlocked

    rows = Product.cached.filter(category=1).order_by("pk").fetch_mode(models.FETCH_PEERS)
    for _ in range(3):
        products = list(rows.all())
        assert len(products) > 1
        with queries(1):  # for all of them
            assert {product.category.name for product in products} == {"a"}
    for _ in range(2):
        product = Product.cached.fetch_mode(models.FETCH_RAISE).get(pk=1)
        with pytest.raises(FieldFetchBlocked):
            product.category  # noqa: B018


def test_the_admin_reads_the_database(shop: Any, queries: Queries) -> None:
    admin = ModelAdmin(Product, AdminSite())
    request = SimpleNamespace(user=None)
    for _ in range(2):
        with queries(2):
            assert len(admin.get_queryset(request)) == 10
            assert admin.get_object(request, "1").name == "product 1"


# Writes


def test_flush(sqlite: Any) -> None:
    stock.fill()
    assert Product.cached.count() > 0
    assert Product.cached.filter(category=1).exists()
    call_command("flush", database=routing.active, interactive=False, verbosity=0)
    assert Product.cached.count() == 0
    assert not Product.cached.filter(category=1).exists()


def test_a_select_that_speaks_of_writing_drops_nothing(shop: Any, queries: Queries) -> None:
    """Nor does it make a transaction a writing one."""
    name_of()
    with atomic():
        sql("SELECT name AS updated, 'delete from shop_product' AS inserted FROM shop_tag")
        with queries(0):
            name_of()
    with queries(0):
        name_of()


# Transactions


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_commit_that_raises_anything_leaves_no_thread_uncached(
    moment: str, shop: Any, monkeypatch: pytest.MonkeyPatch, elsewhere: Elsewhere, queries: Queries
) -> None:
    """Not a DatabaseError: Django does not roll back then, and what comes of it differs."""
    name_of()
    original = base.debug_transaction

    @contextmanager
    def failing(connection: Any, text: str) -> Iterator[None]:
        if text == "COMMIT" and moment == "before":
            raise LookupError(text)
        with original(connection, text):
            yield
        if text == "COMMIT":
            raise LookupError(text)

    with monkeypatch.context() as patch:
        patch.setattr(base, "debug_transaction", failing)
        with pytest.raises(Exception, match=r"COMMIT|autocommit"), atomic():
            rename("perhaps")
    for _ in range(2):
        assert name_of() == name_of(1, "objects")
        assert elsewhere(name_of) == elsewhere(lambda: name_of(1, "objects"))
    shop.close()
    with atomic():
        rename("new")
    assert elsewhere(name_of) == name_of() == "new"
    with queries(0):
        name_of()


TERMINATE = {
    "postgres": "SELECT pg_terminate_backend(%s)",
    "mariadb": "KILL %s",
}


@pytest.mark.parametrize("database", TERMINATE)
def test_after_a_lost_connection_writes_are_noticed_as_before(
    database: str, request: pytest.FixtureRequest, elsewhere: Elsewhere
) -> None:
    """As after a restart of the server: without a restart of the workers."""
    connection = request.getfixturevalue(database)
    stock.fill()
    assert name_of() == "product 1"
    raw = connection.connection
    number = raw.info.backend_pid if database == "postgres" else raw.thread_id()
    elsewhere(lambda: sql(TERMINATE[database] % number))
    with pytest.raises(Exception, match=r"(?i)terminat|lost|gone|closed|kill"):  # noqa: PT012
        for _ in range(100):
            list(Tag.objects.all())
    connection.close()
    rename("new")
    assert elsewhere(name_of) == name_of() == "new"


# Clocks, processes and memory


def test_time_that_stands_still_or_goes_back(
    shop: Any, monkeypatch: pytest.MonkeyPatch, elsewhere: Elsewhere
) -> None:
    """As under freezegun, within one tick of a clock, or when NTP sets it back."""
    now = [1_700_000_000.0]
    for name in ("time", "monotonic"):
        monkeypatch.setattr(time, name, lambda: now[0])
        monkeypatch.setattr(time, f"{name}_ns", lambda: int(now[0] * 1e9))
    for number in range(20):
        rename(f"new {number}")
        assert name_of() == f"new {number}"
        Product.objects.filter(pk=1).update(name=f"newer {number}")
        assert name_of() == f"newer {number}"
        now[0] -= number % 3 * 3600
    monkeypatch.undo()
    assert elsewhere(name_of) == "newer 19"


@zoocache.cacheable(deps=["Product"])
async def total(_: int) -> int:
    return int((await Product.objects.aaggregate(n=Sum("stock")))["n"])


def test_async_code_after_a_fork(sqlite: Any) -> None:
    """No thread of the parent's is needed to compute, to wait or to invalidate."""
    stock.fill()

    async def twice() -> list[int]:
        return list(await asyncio.gather(total(0), total(0)))

    # Not asyncio.run: asgiref's own thread for Django's queries does not survive a fork.
    before = async_to_sync(twice)()[0]
    connections.close_all()
    child = os.fork()
    if not child:
        signal.alarm(20)
        Product.objects.filter(pk=1).update(stock=1000)
        right = async_to_sync(twice)() == [before + 990] * 2
        connections.close_all()
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert async_to_sync(twice)() == [before + 990] * 2


def test_memory_is_what_was_given(sqlite: Any, short_name: str, queries: Queries) -> None:
    """More is stored than there is room for, under more tags than anybody keeps."""
    Category.objects.bulk_create([Category(pk=pk, name="x" * 200) for pk in range(1, 1001)])
    Category.cached.get(pk=1)
    size = os.stat(path_of(short_name)).st_size
    for turn in range(6):
        for pk in range(1, 1001, 10):
            list(Category.cached.filter(pk__range=(pk, pk + 9)))
        sql("SELECT 1")
        zoocache.invalidate(*[f"Category:{pk}" for pk in range(turn + 1, 1001, 7)])
    assert os.stat(path_of(short_name)).st_size == size
    Category.objects.filter(pk=1).update(name="new")
    assert Category.cached.get(pk=1).name == "new"
