"""Writes that fail: those that the database refused are over, of the others nobody knows.

What is not known to be over stays announced until its session is gone.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

import commit_checks as the
import pytest
from commit_checks import Committer, below_django, connected, name_of, raw, update
from conftest import Worker
from django.db import DatabaseError, IntegrityError, OperationalError
from shop import stock
from shop.models import Brand, Product
from shop.routing import atomic

from zoocache import points
from zoocache.contrib.django import sessions, tags
from zoocache.contrib.django.connection import state_of
from zoocache.shm.intent import End, reap

Queries = Callable[..., Any]


def _run(work: Callable[[], Any], inside: bool) -> None:
    """In a transaction, or in autocommit."""
    if not inside:
        work()
        return
    with atomic():
        work()


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def shop(request: pytest.FixtureRequest) -> Any:
    connection = request.getfixturevalue(request.param)
    stock.fill()
    return connection


@pytest.fixture
def server(postgres: Any) -> Any:
    stock.fill()
    return postgres


@pytest.mark.parametrize("inside", [True, False], ids=["transaction", "autocommit"])
def test_an_integrity_error(inside: bool, shop: Any, queries: Queries) -> None:
    def fail() -> None:
        update()
        Brand.objects.create(code="ACME", name="twice")

    with pytest.raises(IntegrityError):
        _run(fail, inside)
    the.assert_released(queries)
    Brand.cached.get(pk=1)
    with queries(0):
        Brand.cached.get(pk=1)


@pytest.mark.parametrize("inside", [True, False], ids=["transaction", "autocommit"])
def test_a_value_that_django_refuses(inside: bool, shop: Any, queries: Queries) -> None:
    """It never got to the database: a typing error in a form must not cost the cache a minute."""
    with pytest.raises(ValueError, match="many"):
        _run(lambda: Product.objects.filter(pk=1).update(stock="many"), inside)
    the.assert_released(queries)


def test_a_parameter_that_the_driver_refuses(shop: Any, queries: Queries) -> None:
    with pytest.raises(Exception), shop.cursor() as cursor:  # noqa: B017, PT011
        cursor.execute("UPDATE shop_product SET name = %s WHERE id = %s", ["never"])
    the.assert_released(queries)


def test_a_receiver_that_raises_within_a_write(shop: Any, queries: Queries) -> None:
    def refuse(execute: Any, sql: str, *args: Any) -> Any:
        execute(sql, *args)
        raise LookupError

    with pytest.raises(LookupError), shop.execute_wrapper(refuse):
        update()
    the.assert_released(queries)
    assert name_of() == "new"


def test_a_lock_that_is_not_got_in_time(shop: Any, queries: Queries) -> None:
    def hold() -> None:
        with atomic():
            update("held")
            holder.pause()

    shop.ensure_connection()
    below_django(
        {
            "sqlite": "PRAGMA busy_timeout = 50",
            "postgresql": "SET lock_timeout = '50ms'",
            "mysql": "SET innodb_lock_wait_timeout = 1",
        }[shop.vendor]
    )
    holder: Any = _Holder()
    worker = holder.worker = Worker(hold, pause_at="held")
    try:
        with pytest.raises(OperationalError):
            update()
        assert the.in_quarantine() == []
        assert the.lanes() == 0
    finally:
        worker.result()
    the.assert_released(queries)
    assert name_of() == "held"


class _Holder:
    """Lets the work of a worker pause before it is known whose it is."""

    def pause(self) -> None:
        points.reach("held")


@pytest.mark.parametrize("shop", ["postgres", "mariadb"], indirect=True)
def test_a_deadlock(shop: Any, queries: Queries) -> None:
    """One of the two is the victim; neither leaves anything announced."""
    errors: list[Exception] = []

    def both(first: int, second: int) -> None:
        try:
            with atomic():
                update("deadlock", first)
                points.reach("held")
                update("deadlock", second)
        except DatabaseError as error:
            errors.append(error)

    other = Worker(lambda: both(2, 1), pause_at="held")
    name_of()
    try:
        with atomic():
            update("deadlock", 1)
            other._go.set()
            update("deadlock", 2)
    except DatabaseError as error:
        errors.append(error)
    finally:
        other.result()
    assert len(errors) == 1
    the.assert_released(queries)


def test_a_constraint_that_fails_at_commit(server: Any, queries: Queries) -> None:
    name_of()

    def fail() -> None:
        update()
        Product.objects.filter(pk=2).update(category_id=12345)

    with pytest.raises(IntegrityError):  # deferred until COMMIT
        _run(fail, inside=True)
    assert name_of() == "product 1"
    the.assert_released(queries)


# Commits of which nobody knows whether they took effect

both_servers = pytest.mark.parametrize("shop", ["postgres", "mariadb"], indirect=True)


@pytest.fixture
def unlooked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks whether sessions are gone, until `the.look()`."""
    monkeypatch.setattr(sessions, "_next_look", float("inf"))


def _session_number() -> int:
    return sessions._number_of(the.connection())


def _end_session(number: int) -> None:
    """As an administrator, a crashing server or a firewall does."""
    statement = {
        "postgresql": f"SELECT pg_terminate_backend({number}, 5000)",
        "mysql": f"KILL CONNECTION {number}",
    }[the.connection().vendor]
    the.connection().ensure_connection()
    below_django(statement)


@both_servers
@pytest.mark.parametrize("inside", [True, False], ids=["transaction", "autocommit"])
def test_a_connection_that_is_lost_in_a_commit(
    inside: bool, shop: Any, queries: Queries, unlooked: None
) -> None:
    numbers = []

    def work() -> None:
        numbers.append(_session_number())
        _run(update, inside)

    writer = Committer(work, pause_at="commit:announced")
    _end_session(numbers[0])
    with pytest.raises(OperationalError):
        writer.result()
    (lost,) = the.in_quarantine()
    assert lost.session.endswith(f" {numbers[0]}")
    for _ in range(2):
        with queries(1):
            assert name_of() == "product 1"
    assert the.in_quarantine() == [lost]
    the.look()
    assert name_of() == "product 1"
    the.assert_released(queries)


def _sleep_at_commit(server: Any, seconds: float) -> None:
    """Every COMMIT of a tag's write takes so long, from the time when nothing can fail any more."""
    raw(
        "CREATE OR REPLACE FUNCTION take_long() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN PERFORM pg_sleep({seconds}); RETURN NULL; END $$",
        "CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON shop_product DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION take_long()",
    )


def test_a_commit_that_the_server_completes_after_the_connection_was_lost(
    server: Any, queries: Queries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And whose session is still there when somebody looks for the first time."""
    _sleep_at_commit(server, 1)
    name_of()

    def work() -> None:
        raw_connection = the.connection().connection
        with socket.socket(fileno=os.dup(raw_connection.fileno())) as wire:
            cutter = threading.Timer(0.3, wire.shutdown, [socket.SHUT_RDWR])
            cutter.start()
            update()

    try:
        with pytest.raises(OperationalError):
            Worker(connected(work)).result()
        (lost,) = the.in_quarantine()
        the.look()
        assert the.in_quarantine() == [lost]
        _watch_until_new()
        the.wait_until(lambda: the.look() or the.in_quarantine() == [])
        assert name_of() == "new"
        the.assert_released(queries)
    finally:
        raw("DROP TRIGGER slow ON shop_product")


def _watch_until_new() -> None:
    """Whoever has seen the new row is never served the old one."""

    def seen() -> bool:
        new = name_of("objects") == "new"
        assert not new or name_of() == "new"
        name_of()  # may fill what is old
        return new

    the.wait_until(seen)


class TimeLimit(Exception):
    """As raised by a task queue's signal handler, wherever the task is."""


def _interrupt(connection: Any, error: type[BaseException]) -> None:
    """A write of some seconds, into which the exception comes."""

    def stop(*args: object) -> None:
        raise error

    name_of()
    seconds = "pg_sleep(3)::text" if connection.vendor == "postgresql" else "SLEEP(3)"
    write = f"UPDATE shop_product SET name = CONCAT('new', LEFT({seconds}, 0)) WHERE id = 1"
    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(error):
            raw(write)
    finally:
        signal.signal(signal.SIGALRM, before)


@both_servers
def test_an_asynchronous_exception_during_a_statement(
    shop: Any, queries: Queries, unlooked: None
) -> None:
    _interrupt(shop, TimeLimit)
    (lost,) = the.in_quarantine()
    assert Worker(name_of).result() == "product 1"
    shop.close()
    Worker(connected(the.look)).result()
    assert the.in_quarantine() == [lost]  # the server is still at it
    _watch_until_new()
    the.wait_until(lambda: the.look() or the.in_quarantine() == [])
    the.assert_released(queries)


def test_an_interrupt_that_the_driver_passes_on_to_the_server(
    server: Any, queries: Queries, unlooked: None
) -> None:
    """psycopg cancels the statement, and waits: its outcome is known."""
    _interrupt(server, KeyboardInterrupt)
    assert name_of() == "product 1"
    the.assert_released(queries)


@both_servers
def test_a_session_that_answers_again_is_done_with_what_was_interrupted(
    shop: Any, queries: Queries, unlooked: None
) -> None:
    written = state_of(shop).written
    shop.ensure_connection()
    written.announce([tags.root("shop_product")], state_of(shop).session.named())
    written.finish(End.UNKNOWN)
    assert len(the.in_quarantine()) == 1
    Worker(connected(the.look)).result()
    assert len(the.in_quarantine()) == 1  # it lives, and may be at anything
    the.look()
    the.assert_released(queries)


def test_a_pooler_between_proves_nothing(
    server: Any, unlooked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver's numbers are the pooler's there: the server has no session of that number."""
    server.ensure_connection()
    written = state_of(server).written
    session = state_of(server).session.named()
    written.announce(
        [tags.root("shop_product")], session._replace(name=session.name.partition(" ")[0] + " 1")
    )
    written.finish(End.UNKNOWN)
    own = _session_number()
    monkeypatch.setattr(sessions, "_number_of", lambda connection: own + 1)
    state_of(server).session._named = None
    the.look()
    assert len(the.in_quarantine()) == 1
    monkeypatch.undo()
    state_of(server).session._named = None
    the.look()
    assert the.in_quarantine() == []


def test_sessions_of_another_database_are_not_asked_for(
    server: Any, sqlite: Any, unlooked: None
) -> None:
    server.ensure_connection()
    written = state_of(server).written
    written.announce([tags.root("shop_product")], sessions.Session("0123456789abcdef 1", 60))
    written.finish(End.UNKNOWN)
    the.look()
    assert len(the.in_quarantine()) == 1


def test_a_quarantine_ends_with_its_time(server: Any, unlooked: None, queries: Queries) -> None:
    server.ensure_connection()
    written = state_of(server).written
    written.announce([tags.root("shop_product")], sessions.Session("", 30))
    written.finish(End.UNKNOWN)
    target = the.segment()
    target.segment.shift_time(29)
    with queries(2):
        name_of(), name_of()
    target.segment.shift_time(31)
    name_of(), reap(target)
    the.assert_released(queries)
