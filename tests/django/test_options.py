"""ZOOCACHE's options that only Django has: MAX_LAG, SCOPE, QUARANTINE, and wrong values of them."""

from __future__ import annotations

import copy
import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import commit_checks as the
import pytest
from commit_checks import raw
from conftest import Worker
from django.core.checks import run_checks
from django.db import connections, transaction
from django.test import override_settings
from shop import routing, stock
from shop.models import Product, Tag

import zoocache
from zoocache.contrib.django.connection import state_of
from zoocache.exceptions import UnstorableError
from zoocache.shm.intent import End

LAG = 5
Queries = Callable[..., Any]


def name_of(using: str | None = None, manager: str = "cached") -> str:
    return str(getattr(Product, manager).using(using).get(pk=1).name)


def rename(name: str, using: str | None = None) -> None:
    Product.objects.using(using).filter(pk=1).update(name=name)


# MAX_LAG: replicas


@contextmanager
def _alias(name: str, of: str, **settings: Any) -> Iterator[None]:
    """A second alias on another one's database."""
    connections.settings[name] = copy.deepcopy(connections.settings[of]) | settings
    try:
        yield
    finally:
        connections[name].close()
        del connections[name], connections.settings[name]
        gc.collect()  # while it is there, so is its claim that something is unusual


@pytest.fixture(params=["sqlite", "postgres"])
def primary(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A database that has `replica` for a replica, which is its mirror in tests."""
    connection = request.getfixturevalue(request.param)
    stock.fill()
    test = {**connection.settings_dict["TEST"], "MIRROR": connection.alias}
    with _alias("replica", connection.alias, TEST=test):
        yield connection


@pytest.fixture
def back_then(primary: Any) -> Callable[[float], Any]:
    """`with back_then(seconds)`: what happens inside was so long ago."""

    @contextmanager
    def shifted(seconds: float) -> Iterator[None]:
        target = the.segment()
        target.segment.shift_time(-seconds)
        try:
            yield
        finally:
            target.segment.shift_time(0)

    return shifted


def test_a_mirror_without_a_lag_is_not_cached(primary: Any, queries: Queries) -> None:
    for _ in range(2):
        with queries(1, "replica"):
            assert name_of("replica") == "product 1"


@override_settings(ZOOCACHE={"MAX_LAG": {"replica": LAG}})
def test_a_mirror_with_a_lag_is_cached(primary: Any, queries: Queries) -> None:
    the.segment().segment.shift_time(2 * LAG)  # the rows were written before that
    name_of("replica")
    with queries(0, "replica"):
        assert name_of("replica") == "product 1"
    rename("new")
    assert name_of("replica") == "new"
    assert name_of() == "new"


@zoocache.cacheable()
def of_the_replica() -> str:
    return name_of("replica")


@zoocache.cacheable(deps=["Product:1"])
def uncached_of_the_replica() -> str:
    return name_of("replica", "objects")


@override_settings(ZOOCACHE={"MAX_LAG": {"replica": LAG}})
@pytest.mark.parametrize("age", [0, LAG - 1, LAG + 1])
def test_what_a_replica_shows_within_the_lag_of_a_write_is_not_kept(
    age: float, primary: Any, queries: Queries
) -> None:
    """The replica here is up to date; a real one might show the row as it was before the write."""
    segment = the.segment().segment
    segment.shift_time(2 * LAG)
    rename("new")
    segment.shift_time(2 * LAG + age)
    kept = age > LAG
    for read in (lambda: name_of("replica"), of_the_replica, uncached_of_the_replica):
        assert read() == "new"
        with queries(0 if kept else 1, "replica"):
            assert read() == "new"
    name_of()
    with queries(0):  # the primary has no lag
        assert name_of() == "new"


@override_settings(ZOOCACHE={"MAX_LAG": {"replica": LAG}})
@pytest.mark.parametrize("primary", ["postgres"], indirect=True)
def test_a_replica_that_does_lag_is_never_served_for_longer_than_that(
    primary: Any, queries: Queries
) -> None:
    """The replica's row is held back by a copy of the table, which is brought up to date later."""
    raw("CREATE SCHEMA behind; CREATE TABLE behind.shop_product AS SELECT * FROM shop_product")
    connections["replica"].ensure_connection()
    with connections["replica"].connection.cursor() as cursor:  # the session is none of zoocache's
        cursor.execute("SET search_path TO behind, public")
    segment = the.segment().segment
    try:
        segment.shift_time(2 * LAG)
        assert name_of("replica") == name_of("replica") == "product 1"
        rename("new")  # drops what was kept of the replica, too
        for age in (0, 1, LAG - 1):
            segment.shift_time(2 * LAG + age)
            with queries(1, "replica"):  # it is still behind, and what it shows is not kept
                assert name_of("replica") == "product 1"
        with connections["replica"].connection.cursor() as cursor:
            cursor.execute("UPDATE behind.shop_product SET name = 'new' WHERE id = 1")
        for age in (LAG - 1, LAG + 1):
            segment.shift_time(2 * LAG + age)
            assert name_of("replica") == "new"
        with queries(0, "replica"):
            assert name_of("replica") == "new"
    finally:
        raw("DROP SCHEMA behind CASCADE")


@override_settings(ZOOCACHE={"MAX_LAG": {"second": LAG}})
def test_the_lag_of_a_second_alias_that_is_declared_nowhere_else(
    sqlite: Any, queries: Queries
) -> None:
    stock.fill()
    with _alias("second", "default"):
        for _ in range(2):
            with queries(1, "second"):  # the rows were only just written
                name_of("second")
        the.segment().segment.shift_time(LAG + 1)
        name_of("second")
        with queries(0, "second"):
            name_of("second")
        with transaction.atomic(using="second"):
            assert name_of("second") == "product 1"


# SCOPE: tenants


TENANTS = ("north", "south")


def tenant_of(connection: Any) -> object:
    return getattr(connection, "tenant", None)


def as_tenant(name: str) -> None:
    connection = connections[routing.active]
    connection.tenant = name
    raw(f"SET search_path TO {name}, public")


@pytest.fixture
def tenants(postgres: Any) -> Iterator[Any]:
    stock.fill()
    for name in TENANTS:
        raw(f"CREATE SCHEMA {name}; CREATE TABLE {name}.shop_tag AS SELECT * FROM shop_tag")
        raw(f"UPDATE {name}.shop_tag SET name = 'of {name}'")
    postgres.close()
    yield postgres
    postgres.__dict__.pop("tenant", None)
    postgres.close()
    for name in TENANTS:
        raw(f"DROP SCHEMA {name} CASCADE")


def tag() -> str:
    return str(Tag.cached.get(pk=1).name)


@zoocache.cacheable()
def function() -> str:
    return tag()


@zoocache.cacheable(deps=["Tag:1"])
def uncached() -> str:
    return str(Tag.objects.get(pk=1).name)


READS = (tag, function, uncached)


def _visit(queries: Queries, expected_queries: int) -> None:
    """Both tenants, one after the other, on one connection."""
    for name in TENANTS:
        as_tenant(name)
        for read in READS:
            assert read() == f"of {name}"
    for name in TENANTS:
        as_tenant(name)
        for read in READS:
            with queries(expected_queries):
                assert read() == f"of {name}"


@pytest.mark.parametrize("scope", [tenant_of, f"{__name__}.tenant_of"])
def test_tenants_have_rows_of_their_own(scope: Any, tenants: Any, queries: Queries) -> None:
    with override_settings(ZOOCACHE={"SCOPE": scope}):
        _visit(queries, 0)
        as_tenant("north")
        Tag.objects.filter(pk=1).update(name="new")
        for read in READS:
            assert read() == "new"
        as_tenant("south")
        for read in READS:
            assert read() == "of south"
        with transaction.atomic(using="pg"):
            as_tenant("north")
            assert [read() for read in READS] == ["new"] * 3
        assert Worker(lambda: (as_tenant("south"), tag(), uncached())[1:]).result() == (
            "of south", "of south",
        )  # fmt: skip


def test_without_a_scope_a_changed_session_bypasses(tenants: Any, queries: Queries) -> None:
    _visit(queries, 1)
    tenants.close()
    assert tag() == "new"  # of the public schema, from a session that is as its settings say
    with queries(0):
        tag()


@pytest.mark.parametrize("error", [AttributeError("schema_name"), UnstorableError("a function")])
def test_a_scope_that_fails(
    error: Exception, tenants: Any, queries: Queries, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is cached, nobody gets an error, and one line says why."""

    def scope(connection: Any) -> object:
        if isinstance(error, UnstorableError):
            return lambda: None
        raise error

    with override_settings(ZOOCACHE={"SCOPE": scope}):
        as_tenant("north")
        for read in [*READS, *READS]:
            with queries(1):
                assert read() == "of north"
    (told,) = [text for text in caplog.messages if "'pg'" in text]
    assert told.startswith("nothing of DATABASES['pg'] is cached: ZOOCACHE['SCOPE'] failed: ")


def test_a_scope_that_changes_within_a_function(tenants: Any, queries: Queries) -> None:
    @zoocache.cacheable(deps=["Tag:1"])
    def both() -> list[str]:
        seen = []
        for name in reversed(TENANTS):
            as_tenant(name)
            seen.append(uncached.__wrapped__())
        return seen

    with override_settings(ZOOCACHE={"SCOPE": tenant_of}):
        as_tenant("south")
        assert both() == ["of south", "of north"]
        as_tenant("south")
        assert uncached() == "of south"
        as_tenant("north")
        assert uncached() == "of north"


# QUARANTINE


@override_settings(ZOOCACHE={"QUARANTINE": 7})
def test_the_quarantine_of_a_server(postgres: Any) -> None:
    stock.fill()
    assert _until() == pytest.approx(7, abs=0.5)


def test_the_quarantine_that_nobody_set(postgres: Any) -> None:
    stock.fill()
    assert _until() == pytest.approx(60, abs=0.5)


def _until() -> float:
    """For how many seconds from now a lost commit stays announced."""
    import time

    connection = connections[routing.active]
    connection.ensure_connection()
    state = state_of(connection)
    state.written.announce(["Product"], state.session.named())
    state.written.finish(End.UNKNOWN)
    (one,) = the.in_quarantine()
    return one.until - time.clock_gettime(time.CLOCK_BOOTTIME)


# Wrong values


WRONG = [
    ({"QUARANTINE": "soon"}, "QUARANTINE"),
    ({"QUARANTINE": -1}, "QUARANTINE"),
    ({"QUARANTINE": None}, "QUARANTINE"),
    ({"MAX_LAG": 2}, "MAX_LAG"),
    ({"MAX_LAG": {"replica": "2 s"}}, "MAX_LAG"),
    ({"MAX_LAG": {"replica": -2}}, "MAX_LAG"),
    ({"SCOPE": "tenants.of_nobody"}, "SCOPE"),
    ({"SCOPE": 7}, "SCOPE"),
    ({"QUARANTEEN": 7}, "QUARANTEEN"),
]


@pytest.mark.parametrize(("given", "key"), WRONG, ids=[str(given) for given, _ in WRONG])
def test_a_wrong_value(
    given: dict[str, Any],
    key: str,
    sqlite: Any,
    queries: Queries,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The check names it; a running site reads from the database, and says so once."""
    stock.fill()
    with override_settings(ZOOCACHE=given), caplog.at_level(logging.INFO):
        found = [message for message in run_checks() if message.id == "zoocache.E001"]
        assert len(found) == 1
        assert key in found[0].msg
        for name in ("a", "b"):
            rename(name)
            for _ in range(2):
                with queries(1):
                    assert name_of() == name
        logged = [record.getMessage() for record in caplog.records]
        assert len(logged) == 1
        assert key in logged[0]
        assert "database" in logged[0] or "computed anew" in logged[0]
    name_of()
    with queries(0):
        name_of()


def test_right_values_pass_the_check(sqlite: Any) -> None:
    given = {"QUARANTINE": 5, "MAX_LAG": {"other": 0.5}, "SCOPE": None}
    with override_settings(ZOOCACHE=given):
        assert [message for message in run_checks() if message.id.startswith("zoocache")] == []


def test_others_are_told_of_writes_whatever_the_options(sqlite: Any) -> None:
    """A process with a wrong setting must not leave stale rows in those that have a right one."""
    stock.fill()
    assert name_of() == "product 1"
    with override_settings(ZOOCACHE={"QUARANTINE": "soon"}):
        rename("new")
    assert name_of() == "new"
