"""Cursors that tell what the execute wrappers are not told.

COPY, `callproc`, `executescript` and the like do not pass the wrappers. And the
end of a cursor matters: SQLite commits a statement with RETURNING, and lets go
of a SELECT's snapshot, only when the last row was fetched or the cursor closed;
what other statements do on the connection does not count.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from operator import attrgetter
from typing import Any

from django.db.backends import utils
from django.db.backends.base.base import BaseDatabaseWrapper

from zoocache.contrib.django.procedures import tables_of

# The other callables of a driver's cursor may run statements.
_HARMLESS = frozenset([
    "close", "fetchall", "fetchmany", "fetchone", "mogrify", "nextset", "results", "row_factory",
    "scroll", "set_result", "setinputsizes", "setoutputsize", "setoutputsizes", "stored_results",
])  # fmt: skip


def watch(make: Callable[..., Any], state: Any) -> Callable[..., Any]:
    """A connection's `make_cursor` whose cursors report to the connection's state."""
    if getattr(make, "__func__", None) is BaseDatabaseWrapper.make_cursor:
        connection = make.__self__  # type: ignore[attr-defined]

        def make_plain(cursor: Any) -> Any:
            made = _mixed(_Watched, utils.CursorWrapper)(cursor, connection)
            made._zoocache = state
            return made

        return make_plain

    def make_cursor(*args: Any, **kwargs: Any) -> Any:
        cursor = make(*args, **kwargs)
        cursor.__class__ = _mixed(_Watched, type(cursor))  # type: ignore[arg-type]
        cursor._zoocache = state
        return cursor

    return make_cursor


def watch_end(cursor: Any, state: Any) -> None:
    """Makes a cursor tell when it is closed or dropped."""
    _become(cursor, _Ending, state)


def watch_rows(cursor: Any, state: Any) -> None:
    """Makes a cursor tell of every fetch, too: each may be the one that ends its statement."""
    _become(cursor, _Rows, state)


def _become(cursor: Any, kind: type, state: Any) -> None:
    if not isinstance(cursor, kind):
        cursor.__class__ = _mixed(kind, type(cursor))  # type: ignore[arg-type]
        cursor._zoocache = state


def watch_pipelines(raw: Any, state: Any) -> None:
    """Makes psycopg's connection tell of its pipelines: what runs in one is over at its end."""
    pipeline = getattr(type(raw), "pipeline", None)
    if pipeline is not None:
        # Of the class: a pool gives the same connection to one DatabaseWrapper after another.
        raw.pipeline = lambda: state.piped(pipeline(raw))


class _Watched:
    cursor: Any  # the driver's
    _zoocache: Any

    def close(self) -> Any:
        return self.cursor.close()

    def callproc(self, name: Any, *args: Any, **kwargs: Any) -> Any:
        call = super().callproc  # type: ignore[misc]
        return self._zoocache.unseen(self, call, tables_of(name))(name, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)  # type: ignore[misc]
        if not callable(found) or name in _HARMLESS or name.startswith("_"):
            return found
        if not inspect.isroutine(found):  # sqlite3's `cursor.connection` can be called, too
            return found
        return self._zoocache.unseen(self, found)


class _Ending:
    _zoocache: Any

    def close(self) -> Any:
        try:
            return super().close()  # type: ignore[misc]
        finally:
            self._zoocache.ended(self)

    def __del__(self) -> None:
        self._zoocache.ended(self)


class _Rows(_Ending):
    def fetchone(self) -> Any:
        return self._fetched(super().__getattr__("fetchone")())  # type: ignore[misc]

    def fetchmany(self, *args: Any, **kwargs: Any) -> Any:
        return self._fetched(super().__getattr__("fetchmany")(*args, **kwargs))  # type: ignore[misc]

    def fetchall(self) -> Any:
        rows = super().__getattr__("fetchall")()  # type: ignore[misc]
        self._zoocache.ended(self)
        return rows

    def __iter__(self) -> Iterator[Any]:
        for row in super().__iter__():  # type: ignore[misc]
            yield self._fetched(row)
        self._zoocache.ended(self)

    def __del__(self) -> None:
        # Not a weak reference's callback: that would run before the statement ends.
        with suppress(Exception):  # of a connection that is closed
            self.close()

    def _fetched(self, rows: Any) -> Any:
        if rows:
            self._zoocache.written.publish()
        else:
            self._zoocache.ended(self)
        return rows


@cache
def _mixed(kind: type, cursor_class: type) -> Any:
    # What Django asks of a cursor after each write, without the way over __getattr__.
    plain = () if hasattr(cursor_class, "rowcount") else ("rowcount",)
    namespace = {name: property(attrgetter(f"cursor.{name}")) for name in plain}
    return type(kind.__name__ + cursor_class.__name__, (kind, cursor_class), namespace)
