"""What is known of one database connection: its transaction, and what that has written.

One `ConnectionState` hangs on each DatabaseWrapper, which belongs to one thread
and one alias: no context variables, and aliases cannot be mixed up.

Writes outside a transaction invalidate as soon as their statement is over.
Writes inside one make their tables dirty: this connection reads those from the
database until the end, and their tags are invalidated right after COMMIT, below
`on_commit` hooks, so that no failing hook can prevent it.
"""

from __future__ import annotations

import logging
import os
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections

from zoocache import codec, store
from zoocache.cacheable import current_frame
from zoocache.contrib.django import tags
from zoocache.contrib.django.lexer import Effect, Kind, effect_of
from zoocache.exceptions import UnstorableError, ZooCacheError

logger = logging.getLogger("zoocache.django")

# Above this many tags a write invalidates its tables as a whole.
MAX_TAGS = 2000

_ATTRIBUTE = "_zoocache_state"


def state_of(connection: Any) -> ConnectionState:
    """The state of a connection, made at first use."""
    state = connection.__dict__.get(_ATTRIBUTE)
    if state is None:
        state = ConnectionState(connection)
        setattr(connection, _ATTRIBUTE, state)
    return state  # type: ignore[no-any-return]


def open_states() -> Iterator[ConnectionState]:
    """The states of this thread's connections."""
    for connection in connections.all(initialized_only=True):
        state = connection.__dict__.get(_ATTRIBUTE)
        if state is not None:
            yield state


class ConnectionState:
    """Frames, dirty tags and stamps of one DatabaseWrapper."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._depth = 0  # ORM statements under way: the wrapper need not look at their SQL
        self._chunked = False
        self.tables: set[str] = set()  # dirty, by their root tags
        self.tags: set[str] = set()
        self.everything = False
        self.clear_after = False  # the user cleared the cache inside the transaction
        self.stamp: int | None = None  # of the transaction's first statement
        self.foreign_session = False
        self.unfinished: weakref.WeakSet[Any] = weakref.WeakSet()
        self._late: weakref.finalize[..., Any] | None = None
        self._raw: Any = None
        self._identity: bytes | None = None

    # What may be read

    def in_transaction(self) -> bool:
        """Is work open that a COMMIT would publish? Asks the driver, which sees a raw BEGIN too."""
        connection = self.connection
        if connection.in_atomic_block or (connection.connection and not connection.autocommit):
            return True
        return _driver_in_transaction(connection)

    @property
    def dirty(self) -> bool:
        return bool(self.everything or self.tables)

    @property
    def pinned(self) -> bool:
        """Is a SELECT unfinished? On SQLite it holds the snapshot of the whole connection."""
        return self.connection.vendor == "sqlite" and bool(self.unfinished)

    def reads_own_writes(self, tables: Iterable[str]) -> bool:
        """May a read of these tables see what this transaction has not committed?"""
        self.settle()
        return self.everything or any(tags.root(table) in self.tables for table in tables)

    def fill_stamp(self, now: int) -> int | None:
        """The stamp of a fill that begins now; None if its snapshot's age is not known."""
        if self.pinned:
            return None
        self.settle()
        return now if self.stamp is None else min(now, self.stamp)

    def identity(self) -> bytes:
        """Names the database and the way this connection sees it, for keys."""
        if self._identity is None or self._raw is not self.connection.connection:
            self._raw = self.connection.connection
            self._identity = _identity_of(self.connection)
            self.foreign_session = False
        return self._identity

    # What was written

    def soil(self, written: Iterable[str], tables: Iterable[str] | None) -> None:
        """Remembers a write of the open transaction; `tables` None: any table."""
        frame = current_frame()
        if frame is not None:
            frame.storable = False  # a rollback would take back what it may read from now on
        if tables is None:
            self.everything = True
            return
        self.tables.update(tags.root(table) for table in tables)
        self.tags.update(written)
        if len(self.tags) > MAX_TAGS:
            self.tags = set(self.tables)

    def repeat_after_commit(self, invalidated: Iterable[str] | None) -> None:
        """Remembers what the user invalidated inside the transaction."""
        if invalidated is None:
            self.clear_after = True
        else:
            self.tags.update(invalidated)

    def publish(self) -> None:
        """Invalidates what the transaction has written."""
        if self.everything or self.clear_after:
            clear()
        elif self.tags:
            bump(self.tags)

    def forget(self) -> None:
        """Drops what the transaction has written: it was rolled back, or published."""
        self.tables, self.tags, self.stamp = set(), set(), None
        self.everything = self.clear_after = False

    def settle(self) -> None:
        """Notices that a transaction ended unseen, by a close or in the driver."""
        if self.dirty or self.tags or self.clear_after or self.stamp is not None:
            if self.in_transaction():
                return
            self.publish()  # at worst needless, after a rollback
            self.forget()

    @contextmanager
    def statement(self, *, chunked: bool = False) -> Iterator[None]:
        """Around an ORM statement: the wrapper leaves its SQL alone."""
        outer = self._chunked
        self._chunked = chunked
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            self._chunked = outer

    def write(
        self,
        written: set[str],
        tables: Iterable[str],
        run: Callable[[], Any],
        learned: Callable[[Any], Iterable[str]],
    ) -> Any:
        """Runs an ORM write of the given tags; `learned` gives more from its result."""
        self.settle()
        if self.in_transaction():
            self.soil(written, tables)
            with self.statement():
                result = run()
            self.soil(learned(result), ())
            return result
        try:
            with self.statement():
                result = run()
            written.update(learned(result))
            return result
        finally:  # after an error too: the statement may have taken effect
            bump(written)

    # Every statement passes here

    def wrapper(
        self,
        execute: Callable[..., Any],
        sql: Any,
        params: Any,
        many: bool,
        context: dict[str, Any],
    ) -> Any:
        """The execute wrapper: sees what the compilers do not."""
        self._finish_late()
        self.settle()
        if self.stamp is None and self.in_transaction():
            target = store.cache()
            self.stamp = None if target is None else target.stamp()
        if self._depth:
            if self._chunked:
                self.unfinished.add(context["cursor"])
            return execute(sql, params, many, context)
        text = sql if isinstance(sql, str) else _text_of(sql, context)
        effect = effect_of(text)
        if effect.kind is Kind.READ:
            self.unfinished.add(context["cursor"])
            return execute(sql, params, many, context)
        result = self._run_raw(effect, lambda: execute(sql, params, many, context))
        if effect.kind is Kind.WRITE and "RETURNING" in text.upper():
            # SQLite commits such a statement when its rows have been fetched.
            roots = {tags.root(table) for table in effect.tables}
            self._late = weakref.finalize(context["cursor"], bump, roots)
        return result

    def _run_raw(self, effect: Effect, run: Callable[[], Any]) -> Any:
        if effect.kind is Kind.COMMIT:
            return self.commit(run)
        if effect.kind is Kind.ROLLBACK:
            return self.rollback(run)
        if effect.kind is Kind.SESSION:
            self.identity()
            self.foreign_session = True
            return run()
        roots = {tags.root(table) for table in effect.tables}
        known = effect.kind is Kind.WRITE
        if self.in_transaction():
            self.soil(roots, effect.tables if known else None)
            result = run()
            if not known and self.connection.vendor == "mysql":
                clear()  # most of what is not understood commits implicitly there
            return result
        try:
            return run()
        finally:
            if known:
                bump(roots)
            else:
                clear()

    def _finish_late(self) -> None:
        if self._late is not None:
            self._late()  # runs once: now, or when the cursor died
            self._late = None

    def commit(self, run: Callable[[], Any]) -> Any:
        """Runs a COMMIT, then publishes; also if it raises, as its outcome is unknown then."""
        self._finish_late()
        try:
            result = run()
        except BaseException:
            self.publish()  # and nothing is forgotten: the transaction may still be open
            raise
        self.publish()
        self.forget()
        return result

    def rollback(self, run: Callable[[], Any]) -> Any:
        result = run()
        self.forget()
        return result


def bump(written: Iterable[str]) -> None:
    """Invalidates after a write. The write is done, so a failure is logged, not raised."""
    try:
        store.bump(written)
    except ZooCacheError as error:
        logger.error("a write was not invalidated, other processes may serve stale rows: %s", error)


def clear() -> None:
    try:
        store.bump_everything()
    except ZooCacheError as error:
        logger.error("a write was not invalidated, other processes may serve stale rows: %s", error)


def _driver_in_transaction(connection: Any) -> bool:
    raw = connection.connection
    if raw is None:
        return False
    if connection.vendor == "sqlite":
        return bool(raw.in_transaction)
    if connection.vendor == "postgresql":
        info = getattr(raw, "info", None)
        return bool(info is not None and info.transaction_status != 0)  # 0: idle
    return False


def _text_of(sql: Any, context: dict[str, Any]) -> str:
    """The text of a driver's own SQL object (psycopg's Composed and the like)."""
    as_string = getattr(sql, "as_string", None)
    if as_string is None:
        return "UNKNOWN"
    try:
        return str(as_string(context["connection"].connection))
    except Exception:
        return "UNKNOWN"


def _identity_of(connection: Any) -> bytes:
    settings = connection.settings_dict
    named: list[Any] = [connection.vendor, connection.timezone_name]
    if connection.vendor == "sqlite":
        try:
            path = os.path.abspath(os.fspath(settings["NAME"]))
            status = os.stat(path)
        except (OSError, TypeError):
            return uuid.uuid4().bytes  # in memory: nobody else's
        named += [path, status.st_dev, status.st_ino]
    else:
        named += [str(settings.get(key) or "") for key in ("HOST", "PORT", "NAME", "USER")]
        named.append(settings.get("OPTIONS") or {})
    try:
        return codec.encode(named)
    except UnstorableError:
        return uuid.uuid4().bytes  # options that cannot be compared: nobody else's
