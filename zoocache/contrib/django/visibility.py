"""What a connection may be served from the cache, and from when on what it reads counts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from zoocache.contrib.django import tags
from zoocache.contrib.django.databases import driver_says_broken, has_tenants, is_replica
from zoocache.contrib.django.options import Options, options
from zoocache.contrib.django.sessions import look_for_ended
from zoocache.contrib.django.transactions import Transactions
from zoocache.shm import STAMPS_PER_SECOND, Cache


class Visibility(Transactions):
    """The reading side of one DatabaseWrapper, which its transactions decide."""

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self.identity = self.session.identity  # every key begins with it
        self.has_tenants = has_tenants(connection)
        self.leading = 0  # flights of this connection's reads: others may be waiting for it
        self.converters: dict[int, Any] = {}  # by filler; see filling.py

    def connected(self) -> None:
        self.converters.clear()  # it may be another server
        super().connected()

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
        if reason := self._unscoped(given):
            return reason
        if is_replica(connection) and connection.alias not in given.max_lag:
            return "the database is a replica, and ZOOCACHE has no MAX_LAG for it"
        if connection.needs_rollback or (self.begun and driver_says_broken(connection)):
            return "the transaction is broken"
        level = getattr(connection, "isolation_level", None)
        if level is not None and "SERIALIZABLE" in str(getattr(level, "name", level)).upper():
            return "the isolation level is SERIALIZABLE"
        return ""

    def _unscoped(self, given: Options) -> str:
        """Why nobody can name what the session sees; empty if the settings or a SCOPE do."""
        if given.scope is not None:
            return ""
        if self.has_tenants:
            return "the backend chooses a schema for each tenant, and ZOOCACHE has no SCOPE"
        if self.session.foreign:
            return "the session was changed by SQL, and ZOOCACHE has no SCOPE"
        return ""

    def _is_usual(self) -> bool:
        return self._is_nothing_open() and not self.bypassed()

    def reads_own_writes(self, tables: Iterable[str]) -> bool:
        """May a read of these tables see what this transaction has not committed?"""
        self.settle()
        written = self.written
        return written.everything or any(tags.root(table) in written.tables for table in tables)

    def newest(self) -> int | None:
        """The newest stamp that may be served; None: any.

        A transaction may see the database as it was at its first statement. An
        entry that was begun before that, and is fresh, is what it would read:
        nothing that it depends on has changed since. A newer one may be too new.
        """
        if not self.begun or not self.in_transaction():
            return None
        return self.stamp or 0

    def fill_stamp(self, target: Cache) -> int | None:
        """The stamp of a fill that begins now; None if its snapshot's age is not known."""
        self.settle()
        if self.pinned:
            return None
        now = self.back_dated_now(target)
        if not self.begun:
            return now
        return None if self.stamp is None else min(now, self.stamp)

    def back_dated_now(self, target: Cache) -> int:
        """The stamp of what is read now; of a replica, that of the time that it may lag behind.

        By the time, not by the clock of the stamps, which stands still while nothing is written.
        """
        stamp, lag = target.stamp(), options().max_lag.get(self.connection.alias, 0)
        if not lag:
            return stamp
        return max(1, min(stamp, target.stamp_of_time() - int(lag * STAMPS_PER_SECOND)))

    def look_for_ended(self, target: Cache) -> None:
        """Asks the database now and then whether quarantined sessions are gone."""
        if not self.in_transaction():
            look_for_ended(self.connection, self.session.named().name, target)
