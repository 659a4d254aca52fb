"""What the database is told by each write of the catalogue.

As a program it prints what Django alone tells it, as JSON: `python -m shop.statements DATABASE`,
where DATABASE is an entry of DATABASES as JSON. The models are the shop's, their managers plain
ones, and nothing of zoocache's Django layer is imported.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

# Names that Django makes from the number of the thread, and counts on.
_OF_THE_THREAD = re.compile(r"\b(s|_django_curs_)\d+_\w+")


@contextmanager
def traced(connection: Any) -> Iterator[list[str]]:
    """What the driver sends to the database meanwhile, whoever gave it to the driver.

    It is sorted: loaddata resets sequences in the order of a set.
    """
    found: list[str] = []
    connection.ensure_connection()
    trace = {"sqlite": _of_sqlite, "postgresql": _of_postgres, "mysql": _of_mysql}
    with trace[connection.vendor](connection.connection, found.append):
        yield found
    found[:] = sorted(_OF_THE_THREAD.sub(r"\1", text) for text in found)


@contextmanager
def _of_sqlite(connection: Any, note: Callable[[str], None]) -> Iterator[None]:
    connection.set_trace_callback(note)
    yield
    with suppress(sqlite3.ProgrammingError):  # loaddata has closed it
        connection.set_trace_callback(None)


@contextmanager
def _of_postgres(connection: Any, note: Callable[[str], None]) -> Iterator[None]:
    from psycopg.pq import Trace

    with tempfile.TemporaryFile("w+") as file:
        connection.pgconn.trace(file.fileno())
        connection.pgconn.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)
        yield
        connection.pgconn.untrace()
        file.seek(0)
        for line in file:
            sender, _, message = line.split("\t", 2)
            if sender == "F" and message.startswith(("Query", "Parse")):
                note(message.strip())


@contextmanager
def _of_mysql(connection: Any, note: Callable[[str], None]) -> Iterator[None]:
    if not hasattr(connection, "_execute_command"):
        import pytest

        pytest.skip("PyMySQL tells what it sends, mysqlclient does not")

    def execute(command: int, text: Any) -> Any:
        note(text if isinstance(text, str) else bytes(text).decode())
        return type(connection)._execute_command(connection, command, text)

    connection._execute_command = execute
    yield
    del connection._execute_command


def of_writes(connection: Any, prepare: Callable[[], object] = lambda: None) -> dict[str, Any]:
    """Each write's statements. It finds the stock, and what `prepare` makes of it.

    On servers a third of the writes will do: what is sent there does not depend on the database.
    """
    from conftest import empty

    from shop import stock
    from shop.routing import atomic
    from shop.writes import WRITES

    found: dict[str, Any] = {}
    step = 1 if connection.vendor == "sqlite" else 3
    for name, write in list(WRITES.items())[::step]:
        empty(connection)
        with atomic():
            stock.fill()
        prepare()
        with traced(connection) as statements:
            try:
                write()
            except Exception as error:  # not every database knows every statement
                statements.append(type(error).__name__)
        found[name] = statements
    return found


def _without_zoocache() -> None:
    from django.db import models
    from django.db.models.options import Options
    from django.db.models.signals import class_prepared

    class Manager(models.Manager):
        def __init__(self, ttl: float | None = None) -> None:
            super().__init__()

    def prepared(sender: Any, **kwargs: Any) -> None:
        for name in ("objects", "cached"):
            if not (hasattr(sender, name) or sender._meta.abstract):
                sender.add_to_class(name, models.Manager())

    def contribute(self: Any, cls: Any, name: str, original: Any = Options.contribute_to_class):
        for key in ("objects", "zoo_cache_signals"):
            if hasattr(self.meta, key):
                delattr(self.meta, key)
        original(self, cls, name)

    stub = types.ModuleType("zoocache.contrib.django")
    stub.ZooCacheManager = Manager  # type: ignore[attr-defined]
    sys.modules[stub.__name__] = stub
    Options.contribute_to_class = contribute
    class_prepared.connect(prepared, weak=False)


def main(database: str) -> None:
    _without_zoocache()
    import settings

    settings.DATABASES["default"] = json.loads(database)
    settings.INSTALLED_APPS.remove("zoocache.contrib.django")
    if settings.DATABASES["default"]["ENGINE"].endswith("mysql"):
        from shop.servers import mariadb_driver

        mariadb_driver()
    import conftest  # configures Django
    from django.db import connection

    assert conftest.settings.DATABASES is settings.DATABASES
    print(json.dumps(of_writes(connection)))
    connection.close()
    assert "zoocache.contrib.django.hooks" not in sys.modules


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    main(sys.argv[1])
