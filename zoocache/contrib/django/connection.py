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
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.db import connections

from zoocache import store
from zoocache.cacheable import current_frame
from zoocache.contrib.django import tags
from zoocache.contrib.django.cursors import watch_rows
from zoocache.contrib.django.databases import (
    driver_in_transaction,
    identity_of,
    is_replica,
    text_of,
)
from zoocache.contrib.django.lexer import Effect, Kind, effect_of
from zoocache.contrib.django.registry import reached
from zoocache.exceptions import ZooCacheError

logger = logging.getLogger("zoocache.django")

# Above this many tags a write invalidates its tables as a whole.
MAX_TAGS = 2000

_ATTRIBUTE = "_zoocache_state"

# States that have written in this context, for tasks that run in another thread:
# asgiref gives them the context, but not the connections.
_writers: ContextVar[tuple[weakref.ref[ConnectionState], ...]] = ContextVar(
    "zoocache_writers", default=()
)


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


def soiled_states() -> tuple[ConnectionState, ...]:
    """The states that have written in this context, whichever thread they belong to."""
    return tuple(state for ref in _writers.get() if (state := ref()) is not None)


class ConnectionState:
    """Frames, dirty tags and stamps of one DatabaseWrapper."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._depth = 0  # ORM statements under way: the wrapper need not look at their SQL
        self._chunked = False
        self._writing = 0
        self._raw_begin = False
        self._held: dict[int, Any] = {}  # cursors whose statement is not over, by raw connection
        self.tables: set[str] = set()  # dirty, by their root tags
        self.tags: set[str] = set()
        self.by_hand: set[str] = set()  # what the user invalidated inside the transaction
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
        """Is work open that nobody else can see yet?"""
        raw = self.connection.connection
        return not self._commits_itself() or any(held is raw for held in self._held.values())

    def _commits_itself(self) -> bool:
        """Is a write committed with its statement? Asks the driver, which sees a raw BEGIN too."""
        connection = self.connection
        if connection.connection is None:
            return True  # closed, perhaps inside atomic(): nothing is open any more
        if connection.in_atomic_block or not connection.autocommit:
            return False
        return not self._raw_begin and not driver_in_transaction(connection)

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
        must raise; a read from a cache takes no predicate lock, which the
        SERIALIZABLE level relies on; and a replica may lag behind the writes
        that were seen here.
        """
        connection = self.connection
        if self.foreign_session or connection.needs_rollback or is_replica(connection):
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
            self._identity = identity_of(self.connection)
            self.foreign_session = False
        return self._identity

    def connected(self) -> None:
        """Begins anew: what Django set up on the way is part of the connection's identity."""
        self.foreign_session = self._raw_begin = False

    # What was written

    def soil(self, written: Iterable[str], tables: Iterable[str] | None) -> None:
        """Remembers a write, before it runs, until it is published; `tables` None: any table."""
        frame = current_frame()
        if frame is not None:
            frame.storable = False  # a rollback would take back what it may read from now on
        writers = {state for state in soiled_states() if state.dirty} | {self}
        _writers.set(tuple(map(weakref.ref, writers)))
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
            self.by_hand.update(invalidated)

    def publish(self) -> None:
        """Invalidates what was written and is committed."""
        if self.everything or self.clear_after:
            clear()
        elif self.tags or self.by_hand:
            bump(self.tags | self.by_hand)

    def forget(self) -> None:
        """Drops what was written: it was rolled back, or published."""
        self.tables, self.tags, self.by_hand, self.stamp = set(), set(), set(), None
        self.everything = self.clear_after = self.begun = self._raw_begin = False

    def settle(self) -> None:
        """Publishes what is still owed: of a transaction that ended unseen, by a close or in the
        driver, and of a write whose own publication was prevented by an asynchronous exception.
        """
        owed = self.dirty or self.tags or self.by_hand or self.clear_after or self.begun
        if owed and not self._writing and not self.in_transaction():
            self.publish()  # at worst needless, after a rollback
            self.forget()

    def _write(
        self, written: Iterable[str], tables: Iterable[str] | None, run: Callable[[], Any]
    ) -> Any:
        """Runs a write of any kind. Inside a transaction, COMMIT publishes it."""
        self.soil(written, tables)
        self._writing += 1
        try:
            return run()
        finally:  # after an error too: the statement may have taken effect
            self._writing -= 1
            if not self.in_transaction():
                self.settle()
            # A raw BEGIN may have been ended by what is not understood: then this was the commit.
            elif self._raw_begin or self._commits_itself():
                self.publish()

    def statement(self, run: Callable[[], Any], *, chunked: bool = False) -> Any:
        """Runs an ORM statement: the wrapper leaves its SQL alone.

        No context manager: an asynchronous exception could come between its call and its effect.
        """
        depth, outer = self._depth, self._chunked
        try:
            self._depth, self._chunked = depth + 1, chunked
            return run()
        finally:
            self._depth, self._chunked = depth, outer

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
        self.connection.ensure_connection()  # before that, nobody knows what autocommit is
        self.settle()
        # A field may run SQL of its own while its value is made (pre_save).
        compiler.as_sql = self.in_the_open(compiler.as_sql)

        def statement() -> Any:
            result = self.statement(run)
            self.soil(learned(result), ())
            return result

        return self._write(written, tables, statement)

    def in_the_open(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """A call within an ORM statement that may run statements which are none of the ORM's."""

        def calling(*args: Any, **kwargs: Any) -> Any:
            depth, self._depth = self._depth, 0
            try:
                return call(*args, **kwargs)
            finally:
                self._depth = depth

        return calling

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
            return self.in_the_open(execute)(sql, params, many, context)  # other wrappers
        text = sql if isinstance(sql, str) else text_of(sql, context)
        effect = effect_of(text)
        if effect.session:
            self.identity()
            self.foreign_session = True
        stamp, cursor = _now(), context["cursor"]
        spent = id(cursor) in self._held
        try:
            return self._run_raw(effect, lambda: execute(sql, params, many, context), cursor)
        finally:
            # The other drivers say so themselves.
            if effect.begins and self.connection.vendor not in ("sqlite", "postgresql"):
                self._raw_begin = True
            if spent and not effect.returning:
                self.ended(cursor)
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
        if effect.returning and self.connection.vendor == "sqlite":
            watch_rows(cursor)
            self._held[id(cursor)] = self.connection.connection
        roots = {tags.root(table) for table in tables or ()}
        result = self._write(roots, tables, run)
        if tables is None and self.connection.vendor == "mysql":
            clear()  # most of what is not understood commits implicitly there
        return result

    def unseen(self, cursor: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        """A method of a cursor that may run anything, past the wrappers, until the cursor ends."""

        def run(*args: Any, **kwargs: Any) -> Any:
            self.settle()
            if self.in_transaction():
                self._begin(_now())
            self._held[id(cursor)] = self.connection.connection
            result = self._write((), None, lambda: call(*args, **kwargs))
            if self.in_transaction():
                self._begin(None)
            if hasattr(result, "__exit__"):  # copy()
                return self._publishing(result)
            return result

        return run

    @contextmanager
    def _publishing(self, manager: Any) -> Iterator[Any]:
        try:
            with manager as value:
                yield value
        finally:
            self.publish()

    def ended(self, cursor: Any) -> None:
        """The cursor was closed, dropped or used anew, or its last row fetched."""
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
    try:
        target = store.writer()
    except ZooCacheError:
        return None
    return None if target is None else target.stamp()
