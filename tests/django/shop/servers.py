"""Finds a PostgreSQL server that the tests may make databases in."""

from __future__ import annotations

import os

HOW_TO = (
    "no PostgreSQL server: install psycopg[binary], start a server, and let PGHOST, PGUSER and "
    "PGPASSWORD name a user who may create databases (default: postgres at 127.0.0.1)"
)


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
