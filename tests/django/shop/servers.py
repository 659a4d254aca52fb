"""Finds the database servers that the tests may make databases in."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager

HOW_TO = (
    "no PostgreSQL server: install psycopg[binary], start a server, and let PGHOST, PGUSER and "
    "PGPASSWORD name a user who may create databases (default: postgres at 127.0.0.1)"
)


_numbers = itertools.count()


def find_postgres() -> dict[str, str] | None:
    """HOST, PORT, USER and PASSWORD of a server; None if there is none."""
    try:
        import psycopg
    except ImportError:
        return None
    found = {
        "HOST": os.environ.get("PGHOST", "127.0.0.1"),
        "PORT": os.environ.get("PGPORT", "5432"),
        "USER": os.environ.get("PGUSER", "postgres"),
        "PASSWORD": os.environ.get("PGPASSWORD", ""),
    }
    try:
        connect_postgres(found).close()
    except psycopg.Error:
        return None
    return found


def connect_postgres(server: dict[str, str]):
    """An autocommit connection to the server's maintenance database."""
    import psycopg

    return psycopg.connect(
        host=server["HOST"],
        port=server["PORT"],
        user=server["USER"],
        password=server["PASSWORD"] or None,
        dbname="postgres",
        connect_timeout=2,
        autocommit=True,
    )


def mariadb_driver():
    """mysqlclient, or PyMySQL in its place; skips the test where there is neither."""
    import pytest

    try:
        import MySQLdb

        return MySQLdb
    except ImportError:
        pymysql = pytest.importorskip("pymysql", reason="install PyMySQL or mysqlclient")
        pymysql.install_as_MySQLdb()
        return pymysql


@contextmanager
def new_mariadb() -> Iterator[dict[str, object]]:
    """Django's settings of a new database of a MariaDB or MySQL server; skips without one.

    root may make databases at 127.0.0.1, or MYSQL_HOST, MYSQL_USER and MYSQL_PASSWORD say who.
    """
    import pytest

    driver = mariadb_driver()
    server = {
        "HOST": os.environ.get("MYSQL_HOST", "127.0.0.1"),
        "USER": os.environ.get("MYSQL_USER", "root"),
        "PASSWORD": os.environ.get("MYSQL_PASSWORD", ""),
    }
    name = f"zoocache_shop_{os.getpid()}_{next(_numbers)}"
    try:
        admin = driver.connect(
            host=server["HOST"], user=server["USER"], password=server["PASSWORD"]
        )
    except driver.OperationalError as error:
        pytest.skip(str(error))
    with closing(admin):
        admin.cursor().execute(f"CREATE DATABASE {name} COLLATE utf8mb4_bin")
        try:
            yield {"ENGINE": "django.db.backends.mysql", "OPTIONS": {}, "NAME": name, **server}
        finally:
            admin.cursor().execute(f"DROP DATABASE {name}")
