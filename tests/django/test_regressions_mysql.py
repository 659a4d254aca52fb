"""MySQL's driver does not tell whether it is in a transaction: a raw BEGIN must be remembered.

The first test needs no server; the other ones run where PyMySQL or mysqlclient is installed and
root may make databases at 127.0.0.1:3306 (else: MYSQL_HOST, MYSQL_USER and MYSQL_PASSWORD).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from threading import get_ident
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connections
from shop import servers
from shop.models import Slug
from shop.workers import elsewhere

from zoocache import store
from zoocache.contrib.django import tags
from zoocache.contrib.django.connection import ConnectionState

BEGINS = ["BEGIN", "begin work", "START TRANSACTION", "START TRANSACTION READ WRITE"]
UPDATE = "UPDATE shop_slug SET note = 'new'"


class Cursor:
    pass


@pytest.fixture
def run() -> Callable[..., Any]:
    """Runs statements on a connection of whose transaction only the text of a BEGIN tells."""
    connection = SimpleNamespace(
        alias="maria",
        vendor="mysql",
        connection=object(),
        in_atomic_block=False,
        autocommit=True,
        settings_dict={},
        timezone=None,
        timezone_name="UTC",
        needs_rollback=False,
        _thread_ident=get_ident(),
    )
    state = ConnectionState(connection)

    def execute(*statements: str) -> ConnectionState:
        for sql in statements:
            state.wrapper(lambda *args: None, sql, None, False, {"cursor": Cursor()})
        return state

    return execute


@pytest.fixture
def fill() -> Callable[[], Callable[[], bool]]:
    """Puts an entry that depends on the table into the cache, as another worker would."""

    def entry() -> Callable[[], bool]:
        cache = store.cache()
        cache.fill("entry", b"old", cache.stamp(), tags=[tags.any_of("shop_slug")])
        return lambda: cache.get("entry") is not None

    return entry


@pytest.mark.parametrize("begin", BEGINS)
def test_commit_after_a_raw_begin(run: Any, fill: Any, begin: str) -> None:
    state = run(begin, UPDATE)
    assert state.in_transaction()
    is_there = fill()  # of what is committed, so it is right until then
    assert is_there()
    run("COMMIT")
    assert not is_there()
    assert not state.in_transaction()


def test_autocommit_after_the_end_of_a_raw_begin(run: Any, fill: Any) -> None:
    for end in ("COMMIT", "ROLLBACK"):
        run("BEGIN", UPDATE, end)
        is_there = fill()
        state = run(UPDATE)
        assert not is_there(), end
        assert not state.written.dirty


def test_a_raw_begin_that_a_lost_connection_ended(run: Any, fill: Any) -> None:
    run("BEGIN", UPDATE).connected()
    fill()
    is_there = fill()
    assert not run(UPDATE).in_transaction()
    assert not is_there()


def test_ddl_after_a_raw_begin_commits_it(run: Any, fill: Any) -> None:
    run("BEGIN", UPDATE)
    is_there = fill()
    run("ALTER TABLE shop_tag ADD x int")
    assert not is_there()


# With a server


@pytest.fixture
def mysql(zoo: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The alias of a new database that holds one table."""
    with servers.new_mariadb() as database:
        settings = copy.deepcopy(connections.settings["default"]) | database
        monkeypatch.setitem(connections.settings, "mysql", settings)
        try:
            with connections["mysql"].schema_editor() as editor:
                editor.create_model(Slug)
            yield "mysql"
        finally:
            connections["mysql"].close()
            del connections["mysql"]


@pytest.mark.parametrize("begin", BEGINS)
def test_commit_after_a_raw_begin_on_a_server(mysql: str, begin: str) -> None:
    Slug.objects.using(mysql).create(slug="a", note="old")

    def note() -> str:
        return elsewhere(lambda: str(Slug.cached.using(mysql).get(pk="a").note))

    assert note() == "old"
    with connections[mysql].cursor() as cursor:
        cursor.execute(begin)
        cursor.execute(UPDATE)
        assert Slug.cached.using(mysql).get(pk="a").note == "new"
        assert note() == "old"  # and puts it into the cache once more
        cursor.execute("COMMIT")
    assert note() == "new"
