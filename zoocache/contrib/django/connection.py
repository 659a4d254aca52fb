"""Every statement of one database connection passes here, the ORM's and the raw ones.

One `ConnectionState` hangs on each DatabaseWrapper, which belongs to one thread
and one alias: no context variables, and aliases cannot be mixed up. What it
writes is the business of transactions.py; what it may read, of visibility.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from functools import partial
from typing import Any

from django.db import connections

from zoocache import store
from zoocache.cacheable import Frame, current_frame
from zoocache.contrib.django import tags, writing
from zoocache.contrib.django.cursors import watch_end, watch_rows
from zoocache.contrib.django.databases import text_of
from zoocache.contrib.django.lexer import Effect, Kind, effect_of
from zoocache.contrib.django.options import options
from zoocache.contrib.django.procedures import with_declared
from zoocache.contrib.django.registry import reached
from zoocache.contrib.django.visibility import Visibility
from zoocache.exceptions import ZooCacheError
from zoocache.shm import Cache

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


class ConnectionState(Visibility):
    """Sees what one DatabaseWrapper runs."""

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self._depth = 0  # ORM statements under way: the wrapper need not look at their SQL
        self._chunked = False

    # What the ORM runs, as its compilers tell

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

    def write(self, compiler: Any, run: Callable[[], Any]) -> Any:
        """Runs an ORM write, whose compiler says of itself meanwhile that it is writing."""
        depth, outer = self._depth, self._chunked
        compiler.as_sql = partial(self._compile, compiler.as_sql)
        try:
            compiler._zoocache_writing = True
            written, roots, learned = writing.written_by(compiler)
            if learned is not None:
                run = partial(self._learn, run, learned)
            if self.connection.connection is None:  # nobody knows then what autocommit is
                self.connection.ensure_connection()
            if self.begun or self.written.owed:
                self.settle()
            return self._write(written, roots, run)
        finally:
            compiler._zoocache_writing = False
            del compiler.as_sql
            self._depth, self._chunked = depth, outer

    def _learn(self, run: Callable[[], Any], learned: Callable[[Any], Iterable[str]]) -> Any:
        result = run()
        self.soil(learned(result), ())
        return result

    def _compile(self, as_sql: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Makes the SQL of a write: what runs from now on, until the write is over, is that.

        A field may run SQL of its own while its value is made (pre_save).
        """
        self._depth, self._chunked = 0, False
        made = as_sql(*args, **kwargs)
        self._depth = 1
        return made

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
        if not self._writing and (self.begun or self.written.owed):
            self.settle()
        if not (self.begun or (self._writing and self._alone)) and self.in_transaction():
            self._begin(_now())
        frame = current_frame()
        if frame is not None:
            self._warn_frame(frame)
        if self._depth:
            if self._chunked:
                self._await(context["cursor"])
            depth, self._depth = self._depth, 0  # other wrappers may run statements
            try:
                return execute(sql, params, many, context)
            finally:
                self._depth = depth
        self.stir()
        text = sql if isinstance(sql, str) else text_of(sql, context)
        effect = effect_of(text)
        if declared := options().procedures:
            effect = with_declared(declared, effect, text, narrow=self._narrows_calls())
        if effect.session:
            self.session.changed_by_sql()
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
                self.calm()

    def _warn_frame(self, frame: Frame) -> None:
        """Tells the computation under way what the statement that it is about to run may see."""
        if self.written.dirty or self.pinned or self._unscoped(options()):
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
        if effect.savepoint and self.connection.vendor == "sqlite":
            return self.savepoint(effect.savepoint == "RELEASE", run)
        if effect.kind is Kind.READ or effect.rows:
            frame = current_frame()
            if frame is not None and frame.observes:
                frame.storable = False  # nobody knows which tables
            self._await(cursor)
        if effect.kind is Kind.READ:
            return run()
        roots = _roots(reached(effect.tables) if effect.kind is Kind.WRITE else None)
        if effect.returning and self.connection.vendor == "sqlite":
            watch_rows(cursor, self)
            self._hold(cursor)
        return self._write(roots or (), roots, run)

    def unseen(
        self, cursor: Any, call: Callable[..., Any], tables: Iterable[str] | None = None
    ) -> Callable[..., Any]:
        """A method of a cursor that runs SQL past the wrappers, until the cursor ends.

        `tables` None: it may write to any.
        """

        def run(*args: Any, **kwargs: Any) -> Any:
            self.stir()
            self.settle()
            if self.in_transaction():
                self._begin(_now())
            self._hold(cursor)
            narrow = tables is not None and self._narrows_calls()
            roots = _roots(reached(tables or ()) if narrow else None)
            result = self._write(roots or (), roots, lambda: call(*args, **kwargs))
            if self.in_transaction():
                self._begin(None)
            if hasattr(result, "__exit__"):  # copy()
                return self._publishing(result)
            return result

        return run

    def _narrows_calls(self) -> bool:
        """Does a declared procedure write its tables only? On MySQL it may COMMIT what is open."""
        return self.connection.vendor == "postgresql" or self._commits_itself()

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
        self.unfinished.add(id(cursor))
        self.stir()

    def _hold(self, cursor: Any) -> None:
        """The cursor's statement may not be over before the cursor is."""
        watch_end(cursor, self)
        self._held[id(cursor)] = self.connection.connection


def _roots(tables: Iterable[str] | None) -> AbstractSet[str] | None:
    return None if tables is None else {tags.root(table) for table in tables}


def _target() -> Cache | None:
    try:
        return store.writer()
    except ZooCacheError:
        return None


def _now() -> int | None:
    target = _target()
    return None if target is None else target.stamp()
