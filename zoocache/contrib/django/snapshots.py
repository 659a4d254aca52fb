"""Reads that agree with each other: one state of the database, and of the cache, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from django.db import DEFAULT_DB_ALIAS, connections, transaction

from zoocache.contrib.django.hooks import hook_connection

# What pins the state. Nothing newer than the first of these is served from the cache.
_PINS = {
    "postgresql": ["SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT 1"],
    "mysql": [
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT",
    ],
    "sqlite": ["SELECT 1 FROM sqlite_master LIMIT 1"],
}


@contextmanager
def snapshot(using: str = DEFAULT_DB_ALIAS) -> Iterator[None]:
    """A transaction in which everything that is read was true at one moment.

    Two lists never disagree, whether they come from the cache or from the
    database. Meant for reading: where others write the same rows meanwhile, the
    database may refuse a write. Costs one or two statements; inside another
    transaction that one's rules stay in force, and nothing is done. A database
    that is not known here is given a plain transaction.
    """
    connection = connections[using]
    if connection.in_atomic_block:
        yield
        return
    with transaction.atomic(using=using):
        state = hook_connection(connection)
        with connection.cursor() as cursor:
            for statement in _PINS.get(connection.vendor, ()):
                state.statement(partial(cursor.execute, statement))
        yield
