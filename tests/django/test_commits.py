"""Between a COMMIT and its invalidation nobody is served the old row, however it is committed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import commit_checks as the
import pytest
from commit_checks import UNTOUCHED, Committer, name_of, raw, tag, untouched, update
from conftest import Worker
from django.db import DatabaseError, transaction
from shop import routing, stock
from shop.models import Product, Tag
from shop.routing import atomic

import zoocache
from zoocache import points
from zoocache.shm.intent import MOST_TAGS

Queries = Callable[..., Any]


@pytest.fixture(params=["sqlite", "rollback", "postgres", "mariadb"])
def shop(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A filled shop; afterwards no commit is announced any more, and hits are hits again."""
    connection = request.getfixturevalue(request.param)
    stock.fill()
    yield connection
    assert the.in_quarantine() == []
    assert the.lanes() == 0


@pytest.fixture
def wal(sqlite: Any) -> Any:
    stock.fill()
    return sqlite


@pytest.fixture
def server(postgres: Any) -> Any:
    stock.fill()
    return postgres


def _save() -> None:
    product = Product.objects.get(pk=1)
    product.name = "new"
    product.save()


def _in_atomic() -> None:
    with atomic():
        update()


def _roll_back(name: str) -> None:
    with suppress(LookupError), atomic():
        update(name)
        raise LookupError


def _nested() -> None:
    with atomic():
        update("first")
        with atomic():
            update("second")
        _roll_back("third")
        with atomic():
            update()


def _autocommit_on() -> None:
    transaction.set_autocommit(False, using=routing.active)
    update()
    if the.connection().vendor == "postgresql":  # refuses it in a transaction
        transaction.commit(using=routing.active)
    transaction.set_autocommit(True, using=routing.active)


def _atomic_without_autocommit() -> None:
    """On SQLite the end of the block is the COMMIT: it releases a savepoint without a BEGIN."""
    transaction.set_autocommit(False, using=routing.active)
    try:
        with atomic():
            update()
        transaction.commit(using=routing.active)
    finally:
        transaction.set_autocommit(True, using=routing.active)


def _raw_savepoint() -> Iterator[None]:
    sqlite = the.connection().vendor == "sqlite"
    raw("SAVEPOINT a" if sqlite else "BEGIN")
    update()
    yield
    raw("RELEASE a" if sqlite else "COMMIT")


def _raw_commit() -> Iterator[None]:
    raw("BEGIN")
    update()
    yield
    raw("COMMIT")


def _all_raw() -> Iterator[None]:
    raw("BEGIN", "UPDATE shop_product SET name = 'new' WHERE id = 1")
    yield
    raw("COMMIT")


def _many_tags() -> None:
    numbers = range(1, MOST_TAGS + 60)
    with atomic():
        for number in numbers:
            update(pk=number)


def _bulk() -> None:
    products = [Product(pk=number, name="new") for number in range(100, 100 + 2 * MOST_TAGS)]
    Product.objects.bulk_create([*products], batch_size=20)
    Product.objects.bulk_update([Product(pk=1, name="new"), *products], ["name"])


def _invalidate_inside() -> None:
    with atomic():
        zoocache.invalidate("Product:1")
        update()


def _clear_inside() -> None:
    with atomic():
        update()
        zoocache.clear()


WRITES: dict[str, Callable[[], Any]] = {
    "update": update,
    "save": _save,
    "raw": lambda: raw("UPDATE shop_product SET name = 'new' WHERE id = 1"),
    "not understood": lambda: raw("/* # */ UPDATE shop_product SET name = 'new' WHERE id = 1"),
    "atomic": _in_atomic,
    "nested": _nested,
    "set_autocommit": _autocommit_on,
    "atomic without autocommit": _atomic_without_autocommit,
    "raw savepoint": _raw_savepoint,
    "raw commit": _raw_commit,
    "all raw": _all_raw,
    "many tags": _many_tags,
    "bulk": _bulk,
    "invalidate inside": _invalidate_inside,
    "clear inside": _clear_inside,
}
WITH_EVERYTHING = {"not understood", "clear inside"}


@pytest.mark.parametrize("write", WRITES)
def test_a_read_between_a_commit_and_its_invalidation(
    write: str, shop: Any, queries: Queries
) -> None:
    writer = Committer(WRITES[write], pause_at="commit:done")
    try:
        if write != "bulk":  # its first commit is of other rows
            assert name_of("objects") == "new"
        for _ in range(2):
            assert name_of() == name_of("objects")
        with queries() as captured:
            name_of(), untouched()
        assert (len(captured) > len(UNTOUCHED)) == (write in WITH_EVERYTHING)
    finally:
        writer.result()
    assert name_of() == name_of("objects") == "new"
    with queries(0):
        name_of()


@pytest.mark.parametrize("write", WRITES)
def test_a_read_between_the_announcement_and_the_commit(
    write: str, shop: Any, queries: Queries
) -> None:
    """What is filled there is of before the commit: it must not outlive it."""
    writer = Committer(WRITES[write], pause_at="commit:announced")
    try:
        if shop.alias != "other" or write in ("update", "save", "raw", "not understood"):
            for _ in range(2):  # SQLite's rollback journal may lock readers out
                with queries(1):
                    assert name_of() == "product 1"
    finally:
        writer.result()
    assert name_of() == name_of("objects") == "new"
    with queries(0):
        name_of()


@pytest.mark.parametrize("inside", [True, False], ids=["transaction", "autocommit"])
def test_a_function_between_a_commit_and_its_invalidation(
    inside: bool, shop: Any, queries: Queries
) -> None:
    @zoocache.cacheable(deps=["Product:1"])
    def function() -> str:
        return name_of("objects")

    assert function() == "product 1"
    writer = Committer(_in_atomic if inside else update, pause_at="commit:done")
    try:
        assert function() == function() == "new"
    finally:
        writer.result()
    assert function() == "new"
    with queries(0):
        function()


def test_others_after_an_atomic_block_without_autocommit(shop: Any, elsewhere: Any) -> None:
    """On SQLite it has committed, and nothing else may run on the connection for long."""
    elsewhere(name_of)
    transaction.set_autocommit(False, using=routing.active)
    try:
        with atomic():
            update()
            with atomic():
                update(pk=2)
            assert elsewhere(name_of) == elsewhere(lambda: name_of("objects")) == "product 1"
        assert elsewhere(name_of) == elsewhere(lambda: name_of("objects"))
    finally:
        transaction.rollback(using=routing.active)
        transaction.set_autocommit(True, using=routing.active)
    assert elsewhere(name_of) == name_of() == name_of("objects")


def test_a_rollback_announces_nothing_and_drops_nothing(shop: Any, queries: Queries) -> None:
    name_of()
    _roll_back("never")
    with queries(0):
        assert name_of() == "product 1"


# Statements that are over only when their rows are fetched, and scripts


def test_returning_with_unfetched_rows(wal: Any, queries: Queries) -> None:
    name_of()

    def work() -> None:
        with the.connection().cursor() as cursor:
            cursor.execute("UPDATE shop_product SET name = 'new' RETURNING id")
            cursor.fetchone()
            points.reach("unfetched")

    writer = Committer(work, pause_at="unfetched")
    for _ in range(2):
        assert name_of() == name_of("objects")
    writer.result()
    assert name_of() == name_of("objects") == "new"
    the.assert_released(queries)


def test_the_end_of_returning(wal: Any, queries: Queries) -> None:
    name_of()

    def work() -> None:
        with the.connection().cursor() as cursor:
            cursor.execute("UPDATE shop_product SET name = 'new' RETURNING id")
            cursor.fetchall()

    writer = Committer(work, pause_at="commit:done")
    assert name_of() == name_of("objects") == "new"
    writer.result()
    the.assert_released(queries)


@pytest.mark.parametrize("inside", [True, False], ids=["transaction", "autocommit"])
def test_a_script(inside: bool, wal: Any, queries: Queries) -> None:
    """SQLite commits what is open before a script."""
    tag(), name_of()

    def script() -> None:
        with the.connection().cursor() as cursor:
            cursor.executescript("UPDATE shop_tag SET name = 'by script'")

    def work() -> None:
        if inside:
            with suppress(LookupError, DatabaseError), atomic():
                update()
                script()
                raise LookupError
        else:
            update()
            script()

    Worker(work).result()
    assert name_of() == name_of("objects") == "new"
    assert tag() == Tag.objects.get(pk=1).name == "by script"
    the.assert_released(queries)


@pytest.mark.parametrize("inside", [True, False], ids=["transaction", "autocommit"])
def test_within_a_script_nobody_is_served_what_it_replaces(
    inside: bool, wal: Any, queries: Queries
) -> None:
    tag(), name_of()

    def work() -> None:
        cursor = the.connection().cursor()
        the.connection().connection.create_function("pause", 0, lambda: writer_pauses() or 1)
        script = "UPDATE shop_tag SET name = 'by script'; SELECT pause()"
        if not inside:
            update()
            cursor.executescript(script)
            return
        with atomic():
            update()
            cursor.executescript(script)

    def writer_pauses() -> None:
        points.reach("within")

    writer = Committer(work, pause_at="within")
    try:
        for _ in range(2):
            assert name_of() == name_of("objects") == "new"
            assert tag() == Tag.objects.get(pk=1).name == "by script"
    finally:
        try:
            writer.result()
        except DatabaseError:
            assert inside  # the savepoint or the transaction is gone
    assert name_of() == name_of("objects") == "new"
    the.assert_released(queries)
