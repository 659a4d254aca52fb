"""PROCEDURES: functions and procedures that write, by declaration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import connections, transaction
from django.test import override_settings
from shop import routing, stock
from shop.models import Product, Tag
from shop.stock import name_of

from zoocache.contrib.django.connection import state_of
from zoocache.contrib.django.lexer import Effect, Kind, effect_of
from zoocache.contrib.django.procedures import with_declared

Elsewhere = Callable[[Callable[[], Any]], Any]
Queries = Callable[..., Any]

DECLARED = {"shop_rename": ["shop_product"], "Public.Shop_Look": []}


def sql(statement: str) -> None:
    with connections[routing.active].cursor() as cursor:
        cursor.execute(statement)


def callproc(name: str) -> None:
    with connections[routing.active].cursor() as cursor:
        cursor.callproc(name)


@pytest.fixture
def declared(zoo: None) -> Iterator[None]:
    with override_settings(ZOOCACHE={"PROCEDURES": DECLARED}):
        yield


@pytest.fixture
def postgres_shop(declared: None, postgres: Any) -> Any:
    stock.fill()
    body = "$$ UPDATE shop_product SET name = 'renamed'; SELECT 1 $$"
    sql(f"CREATE OR REPLACE FUNCTION shop_rename() RETURNS int LANGUAGE sql AS {body}")
    sql("CREATE OR REPLACE FUNCTION shop_look() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$")
    body = "$$ BEGIN UPDATE shop_product SET name = 'renamed'; END $$"
    sql(f"CREATE OR REPLACE PROCEDURE shop_do(n int) LANGUAGE plpgsql AS {body}")
    return postgres


@pytest.fixture
def mariadb_shop(declared: None, mariadb: Any) -> Any:
    stock.fill()
    body = "BEGIN UPDATE shop_product SET name = 'renamed'; COMMIT; END"
    sql(f"CREATE OR REPLACE PROCEDURE shop_rename() {body}")
    return mariadb


CALLS: dict[str, Callable[[], None]] = {
    "a SELECT": lambda: sql("SELECT shop_rename()"),
    "in a schema": lambda: sql('SELECT "public"."shop_rename" ()'),
    "callproc": lambda: callproc("shop_rename"),
    "beside another write": lambda: sql("UPDATE shop_category SET rank = shop_rename()"),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_function_that_writes(
    call: str, postgres_shop: Any, elsewhere: Elsewhere, queries: Queries
) -> None:
    assert name_of() == "product 1"
    list(Tag.cached.all())
    CALLS[call]()
    assert elsewhere(name_of) == name_of() == "renamed"
    with queries(0):  # it writes nothing else
        list(Tag.cached.all())


def test_within_a_transaction(postgres_shop: Any, elsewhere: Elsewhere) -> None:
    name_of()
    with transaction.atomic(using="pg"):
        sql("SELECT shop_rename()")
        assert name_of() == "renamed"
        assert elsewhere(name_of) == "product 1"
    assert elsewhere(name_of) == name_of() == "renamed"


def test_a_function_that_is_declared_to_write_nothing(postgres_shop: Any, queries: Queries) -> None:
    name_of()
    callproc("shop_look")
    with queries(0):
        name_of()


def test_a_procedure_that_is_not_declared_writes_to_everything(
    postgres_shop: Any, elsewhere: Elsewhere, queries: Queries
) -> None:
    name_of()
    list(Tag.cached.all())
    sql("CALL shop_do(1)")
    assert elsewhere(name_of) == "renamed"
    with queries(1):
        list(Tag.cached.all())
    Product.objects.filter(pk=1).update(name="product 1")
    name_of()
    with override_settings(ZOOCACHE={"PROCEDURES": {"shop_do": ["shop_product"]}}):
        list(Tag.cached.all())
        sql("CALL shop_do(2)")
        assert elsewhere(name_of) == "renamed"
        with queries(0):
            list(Tag.cached.all())


@pytest.mark.parametrize("call", [sql, callproc])
def test_a_procedure_that_commits(
    call: Callable[[str], None], mariadb_shop: Any, elsewhere: Elsewhere
) -> None:
    """MySQL's may: with them goes what the transaction wrote before."""
    name_of()
    assert Tag.cached.get(pk=1).name == "new"
    with transaction.atomic(using="maria"):
        Tag.objects.filter(pk=1).update(name="committed")
        call("CALL shop_rename()" if call is sql else "shop_rename")
        assert elsewhere(lambda: Tag.cached.get(pk=1).name) == "committed"
        assert elsewhere(name_of) == "renamed"
    assert name_of() == elsewhere(name_of) == "renamed"
    assert not state_of(mariadb_shop).in_transaction()


TABLES = {"f": frozenset(["a"]), "g": frozenset(["b"])}


@pytest.mark.parametrize(
    ("statement", "kind", "tables"),
    [
        ("SELECT f(1)", Kind.WRITE, "a"),
        ("SELECT F (1), g(2)", Kind.WRITE, "ab"),
        ("SELECT s.`f`(1)", Kind.WRITE, "a"),
        ("SELECT h(1), ff(1), f", Kind.READ, ""),
        ("INSERT INTO c SELECT f(1)", Kind.WRITE, "ac"),
        ("CALL f(1)", Kind.WRITE, "a"),
        ("call f(g(1));", Kind.WRITE, "ab"),
        ("CALL f(1); CALL h(1)", Kind.UNKNOWN, ""),
        ("CALL h(1)", Kind.UNKNOWN, ""),
        ("DO $$ BEGIN PERFORM f(1); END $$", Kind.UNKNOWN, ""),
        ("COMMIT", Kind.COMMIT, ""),
    ],
)
def test_what_a_text_calls(statement: str, kind: Kind, tables: str) -> None:
    effect = with_declared(TABLES, effect_of(statement), statement, narrow=True)
    assert isinstance(effect, Effect)
    assert (effect.kind, effect.tables) == (kind, frozenset(tables))
    if kind is Kind.WRITE and statement.upper().startswith("CALL"):
        broad = with_declared(TABLES, effect_of(statement), statement, narrow=False)
        assert broad.kind is Kind.UNKNOWN


@pytest.mark.parametrize("given", ["f", ["f"], {"f": "shop_product"}, {"f": [1]}])
def test_a_wrong_value(given: Any) -> None:
    with override_settings(ZOOCACHE={"PROCEDURES": given}):
        (message,) = [each for each in run_checks() if each.id == "zoocache.E001"]
        assert "PROCEDURES" in message.msg
