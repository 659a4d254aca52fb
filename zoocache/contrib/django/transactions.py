"""What is open on one database connection, what that has written, and how others are told.

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
from threading import get_ident
from typing import Any

from zoocache import local
from zoocache.cacheable import current_frame
from zoocache.contrib.django.databases import driver_in_transaction
from zoocache.contrib.django.sessions import OwnSession, end_of
from zoocache.contrib.django.testcases import only_test_blocks
from zoocache.contrib.django.written import Written
from zoocache.shm.intent import End

connection_listeners: list[Callable[[str], object]] = []
"""Called with the alias of a connection that is closed, or made anew, maybe to another database."""

_COMMITTED = End.COMMITTED  # to ask an enum takes longer than a call

# Those that have written in this context, for tasks that run in another thread:
# asgiref gives them the context, but not the connections.
_writers: ContextVar[tuple[weakref.ref[Transactions], ...]] = ContextVar(
    "zoocache_writers", default=()
)


def soiled_states() -> tuple[Transactions, ...]:
    """Those that have written in this context, whichever thread they belong to."""
    return tuple(state for ref in _writers.get() if (state := ref()) is not None)


class Transactions:
    """The transactions of one DatabaseWrapper, one after the other, and its writes outside them."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.session = OwnSession(connection)
        self.written = Written()
        self.begun = False  # has a statement of the transaction run?
        self.stamp: int | None = None  # of that first statement; None too where it is not known
        self.unfinished: set[int] = set()  # cursors whose rows are still to be read, by id
        self.manual = False  # is autocommit off, or about to be?
        self._raw_begin = False
        self._by_savepoint = False  # is the transaction of SQLite's one that a SAVEPOINT began?
        # Of psycopg's, open: the server may not have begun with what is in them.
        self._pipelines = 0
        self._held: dict[int, Any] = {}  # cursors whose statement is not over, by raw connection
        self._writing = 0
        # Is a write under way, and nothing else: neither before, nor did any stir or end since?
        self._alone = False
        self._token = weakref.ref(self, local.busy.discard)
        hash(self._token)  # or the last one to ask for it, when this is gone, gets an error

    # Whether copies may be served in this process without asking. A finalizer, of a cursor, may
    # look at any moment: so what begins is noted first, and then the busy are told.

    def stir(self) -> None:
        """Something begins after which this connection may see other rows than everybody does."""
        self._alone = False
        local.busy.add(self._token)

    def calm(self) -> None:
        """Looks whether all of that is over."""
        if self.connection._thread_ident != get_ident():
            return  # what its own thread is at cannot be seen from here
        self._alone = False
        (local.busy.discard if self._is_usual() else local.busy.add)(self._token)

    def _is_usual(self) -> bool:
        return self._is_nothing_open()

    def _is_nothing_open(self) -> bool:
        connection = self.connection
        return not (
            self.begun
            or self.written.owed
            or self._held
            or self._raw_begin
            or self._pipelines
            or connection.in_atomic_block
            or (self.unfinished and self.pinned)
            or (self.manual and connection.connection is not None)
            or driver_in_transaction(connection)
        )

    # What is open

    def in_transaction(self) -> bool:
        """Is work open that nobody else can see yet?"""
        if self._pipelines or not self._commits_itself():
            return True
        raw = self.connection.connection
        return bool(self._held) and any(held is raw for held in self._held.values())

    def _commits_itself(self) -> bool:
        """Is a write committed with its statement, or with the pipeline that it is in?

        Asks the driver, which sees a raw BEGIN too.
        """
        connection = self.connection
        if connection.connection is None:
            return True  # closed, perhaps inside atomic(): nothing is open any more
        if connection.in_atomic_block:
            return only_test_blocks(connection)
        if not connection.autocommit:
            return False
        # In a pipeline the driver does not know it yet.
        return bool(self._pipelines) or not (self._raw_begin or driver_in_transaction(connection))

    def _may_commit_unseen(self, roots: Iterable[str] | None) -> bool:
        """May a statement inside a transaction be, or contain, its COMMIT?

        A raw BEGIN may be ended by what is not understood; MySQL commits before
        most of that, and SQLite before a script.
        """
        return self._raw_begin or (roots is None and self.connection.vendor != "postgresql")

    @property
    def pinned(self) -> bool:
        """Is a SELECT unfinished? On SQLite it holds the snapshot of the whole connection."""
        return self.connection.vendor == "sqlite" and bool(self.unfinished)

    def _begin(self, stamp: int | None) -> None:
        if not self.begun:
            self.begun, self.stamp = True, stamp
            self.stir()

    def connected(self) -> None:
        """Begins anew: what Django set up on the way is part of the connection's identity."""
        self.session.renewed()
        self._raw_begin = self._by_savepoint = False
        self._pipelines = 0
        self.manual = not self.connection.autocommit
        self._changed()

    def closed(self) -> None:
        """Publishes what is owed: nobody may ever look again."""
        self.settle()
        if self.connection.connection is None:  # SQLite keeps a database in memory open
            self.session.renewed()
        self._changed()

    def _changed(self) -> None:
        self.calm()
        for listener in connection_listeners:
            listener(self.connection.alias)

    # What it writes

    def soil(self, written: Iterable[str], roots: Iterable[str] | None) -> None:
        """Remembers a write, before it runs, until it is published; `roots` None: any table."""
        self._remember(written, roots)
        self.stir()

    def _remember(self, written: Iterable[str], roots: Iterable[str] | None) -> None:
        frame = current_frame()
        if frame is not None:
            frame.storable = False  # a rollback would take back what it may read from now on
        if self._token not in _writers.get():
            others = (state._token for state in soiled_states() if state.written.dirty)
            _writers.set((self._token, *others))
        self.written.add(written, roots)

    def _write(
        self, written: Iterable[str], roots: Iterable[str] | None, run: Callable[[], Any]
    ) -> Any:
        """Runs a write of any kind. Inside a transaction, COMMIT publishes it."""
        connection, token = self.connection, self._token
        commits = self._commits_itself()
        # First it is, then it is looked for: a signal handler that begins something takes it back.
        self._alone = True
        # Nothing was open when this last looked (see `calm`), and nothing has begun since.
        if not commits or token in local.busy or connection._thread_ident != get_ident():
            self._alone = False
        may_commit = commits or self._may_commit_unseen(roots)
        end = _COMMITTED
        self._writing += 1  # or a finalizer would take it for one that is over: see `settle`
        try:
            self._remember(written, roots)
            local.busy.add(token)  # as `stir` does, and leaves `_alone` as it is
            if may_commit:
                self.written.announce(None if roots is None else written, self.session.named())
            return run()
        except BaseException as error:
            self._alone = False
            end = end_of(connection, error)
            raise
        finally:  # after an error too: the statement may have taken effect
            try:
                if self._alone and driver_in_transaction(connection):
                    self._begin(None)  # below Django: nobody knows when
                if self._alone:
                    self._over_alone()
                elif self._writing > 1:
                    pass  # the statement that this one is part of will tell
                elif not self.in_transaction():
                    self._over(end)
                elif self._commits_itself():
                    self.written.publish()  # and is over when its cursor ends
                elif may_commit:
                    self.written.finish(end)
            finally:
                self._writing -= 1

    def ended(self, cursor: Any) -> None:
        """The cursor was closed, dropped or used anew, or its last row fetched."""
        self.unfinished.discard(id(cursor))
        if self._held.pop(id(cursor), None) is not None:
            self.settle()
        self.calm()

    # How it ends

    def commit(self, run: Callable[[], Any], ends: Callable[[], bool] = lambda: True) -> Any:
        """Runs a COMMIT, announced before and published after, also if it raises.

        `ends` tells afterwards whether it was one: needless to publish then, but no harm.
        """
        self.written.announce_all(self.session.named())
        try:
            result = run()
        except BaseException as error:
            # Nothing is forgotten: the transaction may still be open.
            self.written.finish(end_of(self.connection, error))
            raise
        if not self._pipelines:  # there it has not even been sent
            self.written.finish(End.COMMITTED)
            if ends():
                self.forget()
        return result

    def savepoint(self, release: bool, run: Callable[[], Any]) -> Any:
        """Runs SQLite's SAVEPOINT, or its RELEASE, which is a COMMIT where no BEGIN was before.

        Django's atomic() does that with autocommit off, and takes itself to be in a transaction.
        """
        if not release:
            self._by_savepoint = self._by_savepoint or not driver_in_transaction(self.connection)
            return run()
        if not self._by_savepoint:
            return run()
        return self.commit(run, ends=lambda: not driver_in_transaction(self.connection))

    def rollback(self, run: Callable[[], Any]) -> Any:
        result = run()
        if not self._pipelines:  # its earlier part may be committed
            self.forget()
        return result

    @contextmanager
    def piped(self, pipeline: Any) -> Iterator[Any]:
        """A pipeline of psycopg's: what was written in it is committed at its end."""
        self.settle()
        end, before = End.COMMITTED, self._pipelines
        try:
            self._pipelines = before + 1
            self.stir()
            with pipeline as opened:
                yield opened
        except BaseException as error:
            end = end_of(self.connection, error)
            raise
        finally:
            self._pipelines = before
            if not self.in_transaction():
                self._over(end)
            self.calm()

    def settle(self) -> None:
        """Publishes what is still owed: of a transaction that ended unseen, by a close or in the
        driver, and of a write whose own publication was prevented by an asynchronous exception.
        """
        if self._writing or not (self.begun or self.written.owed):
            return
        if not self.in_transaction():
            self._over(End.COMMITTED)  # at worst needless, after a rollback

    def _over(self, end: End) -> None:
        """Nothing is open any more."""
        self.written.finish(end)
        self.forget()

    def _over_alone(self) -> None:
        """The same after a write that was alone to its end: it is all that was written, and what is
        open, nothing, need not be looked for. A signal handler that begins something in here
        takes `_alone` back.
        """
        self.written.settle(_COMMITTED)
        self.written.forget()
        if self._alone:
            self._alone = False
            local.busy.discard(self._token)
        else:
            self.calm()

    def forget(self) -> None:
        """Drops what was written: it was rolled back, or published."""
        self.written.forget()
        self.stamp, self.begun = None, False
        self._raw_begin = self._by_savepoint = False
        self.calm()
