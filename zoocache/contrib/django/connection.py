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
from zoocache.contrib.django.cursors import watch_rows
from zoocache.contrib.django.lexer import Effect, Kind, effect_of
from zoocache.contrib.django.registry import reached
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
        self._held: dict[int, Any] = {}  # cursors whose statement is not over, by raw connection
        self.tables: set[str] = set()  # dirty, by their root tags
        self.tags: set[str] = set()
        self.everything = False
        self.clear_after = False  # the user cleared the cache inside the transaction
        self.begun = False  # has a statement of the transaction run?
        self.stamp: int | None = None  # of that first statement; None too where it is not known
        self.foreign_session = False
        self.unfinished: weakref.WeakSet[Any] = weakref.WeakSet()
        self._raw: Any = None
        self._identity: bytes | None = None

    # What may be read

    def in_transaction(self) -> bool:
        """Is work open that a COMMIT would publish? Asks the driver, which sees a raw BEGIN too."""
        connection = self.connection
        raw = connection.connection
        if connection.in_atomic_block or (raw and not connection.autocommit):
            return True
        if any(held is raw for held in self._held.values()):
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

    def bypassed(self) -> bool:
        """Must all reads go to the database?

        The session may see other rows than its settings say; a broken transaction
        must raise; and a read from a cache takes no predicate lock, which the
        SERIALIZABLE level relies on.
        """
        connection = self.connection
        if self.foreign_session or connection.needs_rollback:
            return True
        level = getattr(connection, "isolation_level", None)
        return "SERIALIZABLE" in str(getattr(level, "name", level)).upper()

    def fill_stamp(self, now: int) -> int | None:
        """The stamp of a fill that begins now; None if its snapshot's age is not known."""
        self.settle()
        if self.pinned:
            return None
        if not self.begun:
            return now
        return None if self.stamp is None else min(now, self.stamp)

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
        self.everything = self.clear_after = self.begun = False

    def settle(self) -> None:
        """Notices that a transaction ended unseen, by a close or in the driver."""
        if self.dirty or self.tags or self.clear_after or self.begun:
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
        compiler: Any,
        written: set[str],
        tables: Iterable[str] | None,
        run: Callable[[], Any],
        learned: Callable[[Any], Iterable[str]],
    ) -> Any:
        """Runs an ORM write of the given tags; `learned` gives more from its result.

        `tables` None: it may change any table.
        """
        self.settle()
        compiler.as_sql = self._in_the_open(compiler.as_sql)
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
            if tables is None:
                clear()
            else:
                bump(written)

    def _in_the_open(self, as_sql: Callable[..., Any]) -> Callable[..., Any]:
        """A field may run SQL of its own while its value is made (pre_save)."""

        def compiling(*args: Any, **kwargs: Any) -> Any:
            depth, self._depth = self._depth, 0
            try:
                return as_sql(*args, **kwargs)
            finally:
                self._depth = depth

        return compiling

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
        self.settle()
        if self.in_transaction():
            self._begin(_now())
        self._warn_frame()
        if self._depth:
            if self._chunked:
                self.unfinished.add(context["cursor"])
            return execute(sql, params, many, context)
        text = sql if isinstance(sql, str) else _text_of(sql, context)
        effect = effect_of(text)
        if effect.session:
            self.identity()
            self.foreign_session = True
        stamp = _now()
        try:
            return self._run_raw(
                effect, lambda: execute(sql, params, many, context), context["cursor"]
            )
        finally:
            # The statement may have begun a transaction and read in it, or ended one.
            if self.in_transaction():
                self._begin(stamp)
            else:
                self.settle()

    def _begin(self, stamp: int | None) -> None:
        if not self.begun:
            self.begun, self.stamp = True, stamp

    def _warn_frame(self) -> None:
        """Tells the computation under way what the statement that it is about to run may see."""
        frame = current_frame()
        if frame is None:
            return
        if self.dirty or self.pinned or self.foreign_session:
            frame.storable = False
        elif self.begun:
            frame.storable = frame.storable and self.stamp is not None
            frame.stamp = min(frame.stamp, self.stamp or frame.stamp)

    def _run_raw(self, effect: Effect, run: Callable[[], Any], cursor: Any) -> Any:
        if effect.kind is Kind.COMMIT:
            return self.commit(run)
        if effect.kind is Kind.ROLLBACK:
            return self.rollback(run)
        if effect.kind is Kind.READ:
            self.unfinished.add(cursor)
            return run()
        tables = reached(effect.tables) if effect.kind is Kind.WRITE else None
        roots = {tags.root(table) for table in tables or ()}
        if self.in_transaction():
            self.soil(roots, tables)
            result = run()
            if tables is None and self.connection.vendor == "mysql":
                clear()  # most of what is not understood commits implicitly there
            return result
        if effect.returning and self.connection.vendor == "sqlite":
            return self._run_held(cursor, lambda: self.soil(roots, tables), run, watch_rows)
        try:
            return run()
        finally:
            if tables is None:
                clear()
            else:
                bump(roots)

    def _run_held(
        self,
        cursor: Any,
        soil: Callable[[], None],
        run: Callable[[], Any],
        prepare: Callable[[Any], None],
    ) -> Any:
        """Runs a write that is perhaps not committed before its cursor ends."""
        prepare(cursor)
        self._held[id(cursor)] = self.connection.connection
        soil()
        try:
            result = run()
        except BaseException:
            self.ended(cursor)
            raise
        self.publish()
        return result

    def unseen(self, cursor: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        """A method of a cursor that may run anything, past the wrappers."""

        def run(*args: Any, **kwargs: Any) -> Any:
            self.settle()
            if self.in_transaction():
                self._begin(_now())
            result = self._run_held(
                cursor, lambda: self.soil((), None), lambda: call(*args, **kwargs), lambda _: None
            )
            if self.in_transaction():
                self._begin(None)
            return result

        return run

    def ended(self, cursor: Any) -> None:
        """The cursor was closed, or its last row fetched."""
        self.unfinished.discard(cursor)
        if self._held.pop(id(cursor), None) is not None:
            self.settle()

    def commit(self, run: Callable[[], Any]) -> Any:
        """Runs a COMMIT, then publishes; also if it raises, as its outcome is unknown then."""
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


def _now() -> int | None:
    target = store.cache()
    return None if target is None else target.stamp()


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
    naive = connection.timezone is None  # with USE_TZ off
    named: list[Any] = [connection.vendor, connection.timezone_name, naive]
    if connection.vendor == "sqlite":
        try:
            path = os.path.abspath(os.fspath(settings["NAME"]))
            status = os.stat(path)
        except (OSError, TypeError):
            return uuid.uuid4().bytes  # in memory: nobody else's
        named += [path, status.st_dev, status.st_ino]
    else:
        named += [str(settings.get(key) or "") for key in ("HOST", "PORT", "NAME", "USER")]
        # libpq takes from the environment what the settings do not say.
        named.append(sorted(item for item in os.environ.items() if item[0].startswith("PG")))
    named.append(settings.get("OPTIONS") or {})
    try:
        return codec.encode(named)
    except UnstorableError:
        return uuid.uuid4().bytes  # options that cannot be compared: nobody else's
