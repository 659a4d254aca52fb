"""A Django project with real commits: every test starts with empty tables and its own segment."""

from __future__ import annotations

import atexit
import copy
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from typing import Any

import django
import pytest
import settings as shop_settings
from django.conf import settings
from django.db import connections
from django.db.backends.signals import connection_created
from django.test.utils import CaptureQueriesContext

if not settings.configured:
    settings.configure(
        **{name: getattr(shop_settings, name) for name in dir(shop_settings) if name.isupper()}
    )
    django.setup()
    atexit.register(shutil.rmtree, shop_settings.FOLDER, ignore_errors=True)

from django.apps import apps
from django.core.management import call_command
from django.core.signals import request_finished, request_started
from django_source import django_source as django_source
from shop import routing, servers, stock

import zoocache
from zoocache import config, points, store

VIEW = "CREATE VIEW shop_activeproduct AS SELECT id, name FROM shop_product WHERE active"
SQLITE, ROLLBACK, POSTGRES, MARIADB = "default", "other", "pg", "maria"


def _tune(connection: Any, **kwargs: Any) -> None:
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            file = connection.settings_dict["NAME"]
            mode = "DELETE" if file == settings.DATABASES[ROLLBACK]["NAME"] else "WAL"
            cursor.execute(f"PRAGMA journal_mode = {mode}")
            cursor.execute("PRAGMA synchronous = OFF")


connection_created.connect(_tune)


@pytest.fixture(scope="session")
def _allowed(request: pytest.FixtureRequest) -> None:
    """pytest-django, where it is installed, forbids all queries: these are wanted."""
    if request.config.pluginmanager.hasplugin("django"):
        request.getfixturevalue("django_db_blocker").unblock()


def _make_tables(alias: str) -> None:
    before = {key.lower(): value for key, value in config._overrides.items()}
    # No segment there, so that nothing is cached while the tables are made.
    config.set_overrides(name="none", enabled=False)
    try:
        call_command("migrate", database=alias, run_syncdb=True, verbosity=0)
        with connections[alias].cursor() as cursor:
            cursor.execute(VIEW)
    finally:
        config.clear_overrides()
        config.set_overrides(**before)  # a test may have begun, and have its segment


@pytest.fixture(scope="session")
def _sqlite(_allowed: None) -> None:
    _make_tables(SQLITE)
    _make_tables(ROLLBACK)


@pytest.fixture(scope="session")
def _postgres(_allowed: None) -> Iterator[None]:
    server, name = shop_settings.POSTGRES, settings.DATABASES.get(POSTGRES, {}).get("NAME")
    if server is None:
        pytest.skip(servers.HOW_TO)
    with servers.connect_postgres(server) as admin:
        admin.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        try:
            _make_tables(POSTGRES)
            yield
        finally:
            connections[POSTGRES].close()
            admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(scope="session")
def _mariadb(_allowed: None) -> Iterator[None]:
    with servers.new_mariadb() as database:
        connections.settings[MARIADB] = copy.deepcopy(connections.settings[SQLITE]) | database
        try:
            _make_tables(MARIADB)
            yield
        finally:
            connections[MARIADB].close()
            del connections[MARIADB], connections.settings[MARIADB]


def tables() -> list[str]:
    return sorted(
        {
            model._meta.db_table
            for model in apps.get_models(include_auto_created=True)
            if model._meta.managed and model._meta.app_label == "shop"
        }
    )


def empty(connection: Any) -> None:
    """Empties the tables below Django, so that zoocache sees nothing of it."""
    connection.ensure_connection()
    if connection.vendor == "sqlite":
        raw = connection.connection
        raw.execute("PRAGMA foreign_keys = OFF")
        raw.execute("BEGIN")
        for table in tables():
            raw.execute(f'DELETE FROM "{table}"')
        raw.execute("DELETE FROM sqlite_sequence")
        raw.execute("COMMIT")
        raw.execute("PRAGMA foreign_keys = ON")
    elif connection.vendor == "mysql":
        with closing(connection.connection.cursor()) as cursor:
            cursor.execute("SET foreign_key_checks = 0")
            for table in tables():
                cursor.execute(f"TRUNCATE {table}")
            cursor.execute("SET foreign_key_checks = 1")
    else:
        quoted = ", ".join(f'"{table}"' for table in tables())
        connection.connection.execute(f"TRUNCATE {quoted} RESTART IDENTITY CASCADE")


@pytest.fixture(autouse=True)
def zoo(short_name: str, _sqlite: None) -> Iterator[None]:
    """A segment of the test's own."""
    zoocache.configure(name=short_name, size="2MiB")
    yield
    assert routing.active == SQLITE
    points.install(None)
    store._logged.clear()
    config.clear_overrides()


def _fresh(alias: str) -> Iterator[Any]:
    connection = connections[alias]
    connection.close()
    empty(connection)
    try:
        with routing.routed_to(alias):
            yield connection
    finally:
        points.install(None)
        connection.close()


@pytest.fixture
def sqlite(zoo: None) -> Iterator[Any]:
    """The connection to `default`, with empty tables."""
    yield from _fresh(SQLITE)


@pytest.fixture
def rollback(zoo: None) -> Iterator[Any]:
    """The connection to `other`, with empty tables."""
    yield from _fresh(ROLLBACK)


@pytest.fixture
def postgres(zoo: None, _postgres: None) -> Iterator[Any]:
    """The connection to PostgreSQL, with empty tables."""
    yield from _fresh(POSTGRES)


@pytest.fixture
def mariadb(zoo: None, _mariadb: None) -> Iterator[Any]:
    """The connection to MariaDB or MySQL, with empty tables."""
    yield from _fresh(MARIADB)


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def db(request: pytest.FixtureRequest) -> Any:
    """A connection with empty tables, to each kind of database; unrouted queries go there."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def shop(db: Any) -> Any:
    """A connection to each kind of database, with a stock of rows."""
    stock.fill()
    return db


@pytest.fixture
def in_a_request() -> Iterator[None]:
    """Between the signals that Django sends around a request."""
    request_started.send(sender=None)
    yield
    request_finished.send(sender=None)


@pytest.fixture
def elsewhere() -> Callable[[Callable[[], Any]], Any]:
    """`elsewhere(work)` is what another worker's connection makes of it."""

    def run(work: Callable[[], Any]) -> Any:
        return Worker(work).result()

    return run


class Worker:
    """A thread with connections of its own. `pause_at` names the point at which it stops.

    It stops there once, and goes on when `result` is called.
    """

    def __init__(self, work: Callable[[], Any], *, pause_at: str | None = None) -> None:
        self._paused, self._go, self._outcome = threading.Event(), threading.Event(), Future()
        self._pause_at = pause_at
        if pause_at:
            points.install(self._reached)
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()
        if pause_at:
            assert self._paused.wait(20), f"{pause_at} was not reached: {self._outcome}"

    def pause(self, name: str = "") -> None:
        """To be called by the work itself: stops there, like at a point."""
        self._reached(self._pause_at or "")

    def _reached(self, name: str) -> None:
        here = threading.current_thread() is self._thread
        if here and name == self._pause_at and not self._paused.is_set():
            self._paused.set()
            assert self._go.wait(20)

    def _run(self, work: Callable[[], Any]) -> None:
        try:
            self._outcome.set_result(work())
        except BaseException as error:
            self._outcome.set_exception(error)
        finally:
            connections.close_all()

    def result(self) -> Any:
        self._go.set()
        self._thread.join(20)
        points.install(None)
        return self._outcome.result(0)


@pytest.fixture
def queries(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`with queries(0): ...` asserts how many statements the database got."""

    @contextmanager
    def counting(expected: int | None = None, alias: str | None = None) -> Iterator[Any]:
        connection = connections[alias or routing.active]
        connection.queries_log.clear()  # it is bounded, and warns when it is full
        with CaptureQueriesContext(connection) as captured:
            yield captured
        if expected is not None:
            got = [query["sql"] for query in captured.captured_queries]
            assert len(got) == expected, got

    return counting


@pytest.fixture
def is_cached(queries: Callable[..., Any]) -> Callable[..., bool]:
    """Does evaluating again take no query? The first evaluation fills the cache."""

    def check(evaluate: Callable[[], Any]) -> bool:
        evaluate()
        with queries() as captured:
            evaluate()
        return len(captured) == 0

    return check
