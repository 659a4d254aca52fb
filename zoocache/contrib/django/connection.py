"""What is known of one database connection: its transaction, and what that has written.

One `ConnectionState` hangs on each DatabaseWrapper, which belongs to one thread
and one alias: no context variables, and aliases cannot be mixed up.

A write outside a transaction is announced before its statement and invalidated
as soon as that is over. Writes inside one make their tables dirty: this
connection reads those from the database until the end. Their tags are announced
before COMMIT and invalidated right after it, below `on_commit` hooks, so that
no failing hook can prevent it.

The transactions that TestCase wraps around tests do not count as such: in them
everything happens as if they were not there, under keys of their own.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

from django.db import connections

from zoocache import codec, store
from zoocache.cacheable import Frame, current_frame
from zoocache.contrib.django import tags
from zoocache.contrib.django.cursors import watch_end, watch_rows
from zoocache.contrib.django.databases import (
    driver_in_transaction,
    identity_of,
    is_replica,
    text_of,
)
from zoocache.contrib.django.lexer import Effect, Kind, effect_of
from zoocache.contrib.django.options import options
from zoocache.contrib.django.registry import reached
from zoocache.contrib.django.sessions import (
    Session,
    end_of,
    look_for_ended,
    name_of,
    session_of,
)
from zoocache.contrib.django.testcases import namespace_of, only_test_blocks
from zoocache.contrib.django.written import Written
from zoocache.exceptions import ZooCacheError
from zoocache.shm import STAMPS_PER_SECOND, Cache
from zoocache.shm.intent import End

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
    """Transactions, writes and stamps of one DatabaseWrapper."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._depth = 0  # ORM statements under way: the wrapper need not look at their SQL
        self._chunked = False
        self._writing = 0
        self.leading = 0  # flights of this connection's reads: others may be waiting for it
        self._raw_begin = False
        self._ref = weakref.ref(self)
        self._held: dict[int, Any] = {}  # cursors whose statement is not over, by raw connection
        self.written = Written()
        self.begun = False  # has a statement of the transaction run?
        self.stamp: int | None = None  # of that first statement; None too where it is not known
        self.foreign_session = False
        self.unfinished: weakref.WeakSet[Any] = weakref.WeakSet()
        self._raw: Any = None
        self._identity: bytes | None = None
        self._name: str | None = None  # of the session

    # What may be read

    def in_transaction(self) -> bool:
        """Is work open that nobody else can see yet?"""
        if not self._commits_itself():
            return True
        raw = self.connection.connection
        return bool(self._held) and any(held is raw for held in self._held.values())

    def _commits_itself(self) -> bool:
        """Is a write committed with its statement? Asks the driver, which sees a raw BEGIN too."""
        connection = self.connection
        if connection.connection is None:
            return True  # closed, perhaps inside atomic(): nothing is open any more
        if connection.in_atomic_block:
            return only_test_blocks(connection)
        if not connection.autocommit:
            return False
        return not (self._raw_begin or driver_in_transaction(connection))

    @property
    def pinned(self) -> bool:
        """Is a SELECT unfinished? On SQLite it holds the snapshot of the whole connection."""
        return self.connection.vendor == "sqlite" and bool(self.unfinished)

    def reads_own_writes(self, tables: Iterable[str]) -> bool:
        """May a read of these tables see what this transaction has not committed?"""
        self.settle()
        written = self.written
        return written.everything or any(tags.root(table) in written.tables for table in tables)

    def bypassed(self) -> str:
        """Why all reads must go to the database; empty if they need not.

        The session may see other rows than its settings say; a broken transaction
        must raise; a read from a cache takes no predicate lock, which the
        SERIALIZABLE level relies on; and a replica may lag behind the writes
        that were seen here.
        """
        connection, given = self.connection, options()
        if not given.usable:
            return "a key of the ZOOCACHE setting is wrong"
        if self.foreign_session and given.scope is None:
            return "the session was changed by SQL, and ZOOCACHE has no SCOPE"
        if is_replica(connection) and connection.alias not in given.max_lag:
            return "the database is a replica, and ZOOCACHE has no MAX_LAG for it"
        if connection.needs_rollback:
            return "the transaction is broken"
        level = getattr(connection, "isolation_level", None)
        if "SERIALIZABLE" in str(getattr(level, "name", level)).upper():
            return "the isolation level is SERIALIZABLE"
        return ""

    def fill_stamp(self, target: Cache) -> int | None:
        """The stamp of a fill that begins now; None if its snapshot's age is not known."""
        self.settle()
        if self.pinned:
            return None
        now = self.back_dated_now(target)
        if not self.begun:
            return now
        return None if self.stamp is None else min(now, self.stamp)

    def newest(self) -> int | None:
        """The newest stamp that may be served; None: any.

        A transaction may see the database as it was at its first statement. An
        entry that was begun before that, and is fresh, is what it would read:
        nothing that it depends on has changed since. A newer one may be too new.
        """
        if not self.begun or not self.in_transaction():
            return None
        return self.stamp or 0

    def back_dated_now(self, target: Cache) -> int:
        """The stamp of what is read now; of a replica, that of the time that it may lag behind.

        By the time, not by the clock of the stamps, which stands still while nothing is written.
        """
        stamp, lag = target.stamp(), options().max_lag.get(self.connection.alias, 0)
        if not lag:
            return stamp
        return max(1, min(stamp, target.stamp_of_time() - int(lag * STAMPS_PER_SECOND)))

    def identity(self) -> bytes:
        """Names the database and the way this connection sees it, for keys."""
        return self._database() + self.namespace()

    def _database(self) -> bytes:
        if self._identity is None or self._raw is not self.connection.connection:
            self._raw = self.connection.connection
            self._identity = identity_of(self.connection)
            self._name = None
            self.foreign_session = False
        return self._identity

    def namespace(self) -> bytes:
        """What its rows depend on beside the database: the scope, a test that is rolled back."""
        scope = options().scope
        named = b"" if scope is None else codec.encode_name(scope(self.connection))
        return named + namespace_of(self.connection) if self.connection.in_atomic_block else named

    def look_for_ended(self, target: Cache) -> None:
        """Asks the database now and then whether quarantined sessions are gone."""
        if not self.in_transaction():
            look_for_ended(self.connection, self._session().name, target)

    def _session(self) -> Session:
        database = self._database()
        if self._name is None:
            self._name = name_of(self.connection, database)
        return session_of(self.connection, self._name)

    def connected(self) -> None:
        """Begins anew: what Django set up on the way is part of the connection's identity."""
        self.foreign_session = self._raw_begin = False

    # What was written

    def soil(self, written: Iterable[str], tables: Iterable[str] | None) -> None:
        """Remembers a write, before it runs, until it is published; `tables` None: any table."""
        frame = current_frame()
        if frame is not None:
            frame.storable = False  # a rollback would take back what it may read from now on
        if self._ref not in _writers.get():
            others = (state._ref for state in soiled_states() if state.written.dirty)
            _writers.set((self._ref, *others))
        self.written.add(written, tables)

    def forget(self) -> None:
        """Drops what was written: it was rolled back, or published."""
        self.written.forget()
        self.stamp, self.begun, self._raw_begin = None, False, False

    def settle(self) -> None:
        """Publishes what is still owed: of a transaction that ended unseen, by a close or in the
        driver, and of a write whose own publication was prevented by an asynchronous exception.
        """
        if self._writing or not (self.begun or self.written.owed):
            return
        if not self.in_transaction():
            self._over(End.COMMITTED)  # at worst needless, after a rollback

    def _write(
        self, written: Iterable[str], tables: Iterable[str] | None, run: Callable[[], Any]
    ) -> Any:
        """Runs a write of any kind. Inside a transaction, COMMIT publishes it."""
        self.soil(written, tables)
        may_commit = self._commits_itself() or self._may_commit_unseen(tables)
        if may_commit:
            self.written.announce(None if tables is None else written, self._session())
        self._writing += 1
        end = End.COMMITTED
        try:
            return run()
        except BaseException as error:
            end = end_of(self.connection, error)
            raise
        finally:  # after an error too: the statement may have taken effect
            self._writing -= 1
            if self._writing:
                pass  # the statement that this one is part of will tell
            elif not self.in_transaction():
                self._over(end)
            elif self._commits_itself():
                self.written.publish()  # and is over when its cursor ends
            elif may_commit:
                self.written.finish(end)

    def _may_commit_unseen(self, tables: Iterable[str] | None) -> bool:
        """May a statement inside a transaction be, or contain, its COMMIT?

        A raw BEGIN may be ended by what is not understood; MySQL commits before
        most of that, and SQLite before a script.
        """
        return self._raw_begin or (tables is None and self.connection.vendor != "postgresql")

    def _over(self, end: End) -> None:
        """Nothing is open any more."""
        self.written.finish(end)
        self.forget()

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
        learned: Callable[[Any], Iterable[str]] | None,
    ) -> Any:
        """Runs an ORM write of the given tags; `learned` gives more from its result.

        `tables` None: it may change any table.
        """
        if self.connection.connection is None:  # nobody knows then what autocommit is
            self.connection.ensure_connection()
        self.settle()

        def learning() -> Any:
            result = self.statement(run)
            self.soil(learned(result), ())  # type: ignore[misc]
            return result

        statement = partial(self.statement, run) if learned is None else learning
        # A field may run SQL of its own while its value is made (pre_save).
        compiler.as_sql = partial(self.in_the_open, compiler.as_sql)
        try:
            return self._write(written, tables, statement)
        finally:
            del compiler.as_sql

    def in_the_open(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Makes a call within an ORM statement that may run others, which are none of the ORM's."""
        depth, self._depth = self._depth, 0
        try:
            return call(*args, **kwargs)
        finally:
            self._depth = depth

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
        if not self._writing:
            self.settle()
        if not self.begun and self.in_transaction():
            self._begin(_now())
        frame = current_frame()
        if frame is not None:
            self._warn_frame(frame)
        if self._depth:
            if self._chunked:
                self._await(context["cursor"])
            return self.in_the_open(execute, sql, params, many, context)  # other wrappers
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

    def _warn_frame(self, frame: Frame) -> None:
        """Tells the computation under way what the statement that it is about to run may see."""
        foreign = self.foreign_session and options().scope is None
        if self.written.dirty or self.pinned or foreign:
            frame.storable = False
            return
        if self.connection.alias in options().max_lag:
            target = _target()
            frame.stamp = min(frame.stamp, self.back_dated_now(target) if target else 1)
        if self.begun:
            frame.storable = frame.storable and self.stamp is not None
            frame.stamp = min(frame.stamp, self.stamp or frame.stamp)

    def _run_raw(self, effect: Effect, run: Callable[[], Any], cursor: Any) -> Any:
        if effect.kind is Kind.COMMIT:
            return self.commit(run)
        if effect.kind is Kind.ROLLBACK:
            return self.rollback(run)
        if effect.kind is Kind.READ:
            frame = current_frame()
            if frame is not None and frame.observes:
                frame.storable = False  # nobody knows which tables
            self._await(cursor)
            return run()
        tables = reached(effect.tables) if effect.kind is Kind.WRITE else None
        if effect.returning and self.connection.vendor == "sqlite":
            watch_rows(cursor, self)
            self._hold(cursor)
        roots = {tags.root(table) for table in tables or ()}
        return self._write(roots, tables, run)

    def unseen(self, cursor: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        """A method of a cursor that may run anything, past the wrappers, until the cursor ends."""

        def run(*args: Any, **kwargs: Any) -> Any:
            self.settle()
            if self.in_transaction():
                self._begin(_now())
            self._hold(cursor)
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
            self.written.publish()

    def _await(self, cursor: Any) -> None:
        """The cursor's rows are read later: until its end, a snapshot may be pinned."""
        watch_end(cursor, self)
        self.unfinished.add(cursor)

    def _hold(self, cursor: Any) -> None:
        """The cursor's statement may not be over before the cursor is."""
        watch_end(cursor, self)
        self._held[id(cursor)] = self.connection.connection

    def ended(self, cursor: Any) -> None:
        """The cursor was closed, dropped or used anew, or its last row fetched."""
        self.unfinished.discard(cursor)
        if self._held.pop(id(cursor), None) is not None:
            self.settle()

    def commit(self, run: Callable[[], Any]) -> Any:
        """Runs a COMMIT, announced before and published after, also if it raises."""
        self.written.announce_all(self._session())
        try:
            result = run()
        except BaseException as error:
            # Nothing is forgotten: the transaction may still be open.
            self.written.finish(end_of(self.connection, error))
            raise
        self.written.finish(End.COMMITTED)
        self.forget()
        return result

    def rollback(self, run: Callable[[], Any]) -> Any:
        result = run()
        self.forget()
        return result


def _target() -> Cache | None:
    try:
        return store.writer()
    except ZooCacheError:
        return None


def _now() -> int | None:
    target = _target()
    return None if target is None else target.stamp()
