"""Database sessions: what is known of them, and what becomes of a commit when its client dies.

A server goes on working for a dead client: the COMMIT of a killed worker may
take effect seconds later. So what it announced stays announced until its
session is known to be gone, or a stated time has passed.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from contextlib import closing, suppress
from hashlib import blake2b
from traceback import walk_tb
from typing import Any, NamedTuple

from django.db.utils import DatabaseError, InterfaceError, OperationalError

from zoocache import codec, store
from zoocache.contrib.django.databases import identity_of
from zoocache.contrib.django.options import options
from zoocache.contrib.django.testcases import namespace_of
from zoocache.shm import Cache
from zoocache.shm.intent import End, quarantined, resolve

logger = logging.getLogger("zoocache.django")

_SECONDS_BETWEEN_LOOKS = 1.0


class Session(NamedTuple):
    """What an announcement says of the database session whose commit it is."""

    name: str
    """Empty where the driver does not say."""
    quarantine: float
    """How long, in seconds, it may commit after its client died."""


class OwnSession:
    """The session that a DatabaseWrapper has now; made anew when it reconnects."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._ends_with_process = connection.vendor == "sqlite"
        self.foreign = False
        """Did SQL change what it sees? Then the settings do not tell."""
        self._raw: Any = None
        self._settings: Any = None
        self._identity = self._digest = b""
        self.known: tuple[Any, Any, bytes] = connection, None, b""
        """The wrapper, its raw connection and, as long as it has that, what `digest` says."""
        self._named: Session | None = None

    def identity(self) -> bytes:
        """Names the database and the way this session sees it, for keys."""
        return self._database() + self.namespace()

    def _database(self) -> bytes:
        if self._is_another():
            self._look_anew()
        return self._identity

    def digest(self) -> bytes:
        """A short form of `identity`, of which a namespace is no part."""
        raw = self._raw
        # Connected, as it mostly is, without a further call.
        if (raw is None or raw is not self.connection.connection) and self._is_another():
            self._look_anew()
        return self._digest

    def _is_another(self) -> bool:
        raw = self.connection.connection
        # Until it connects, it may be told to connect to something else.
        return raw is not self._raw or (
            raw is None and self._settings != self.connection.settings_dict
        )

    def namespace(self) -> bytes:
        """What its rows depend on beside the database: the scope, a test that is rolled back."""
        scope = options().scope
        named = b"" if scope is None else self._scoped(scope)
        return named + namespace_of(self.connection) if self.connection.in_atomic_block else named

    def _scoped(self, scope: Callable[[Any], object]) -> bytes:
        try:
            return codec.encode_name(scope(self.connection))
        except Exception as error:  # the user's own
            alias = self.connection.alias
            store.log_once(
                f"nothing of DATABASES[{alias!r}] is cached: ZOOCACHE['SCOPE'] failed: {error!r}",
                about=("SCOPE", alias),
            )
            return uuid.uuid4().bytes  # nobody else's

    def named(self) -> Session:
        """What announcements say of it."""
        raw = self._raw
        if (raw is None or raw is not self.connection.connection) and self._is_another():
            self._look_anew()
        quarantine = 0 if self._ends_with_process else options().quarantine
        known = self._named
        if known is None or known[1] != quarantine:  # by its name takes longer
            known = Session(name_of(self.connection, self._identity), quarantine)
            self._named = known
        return known

    def changed_by_sql(self) -> None:
        self.identity()
        self.foreign = True

    def closing(self) -> None:
        """Leaves a word on the raw connection: a pool may give it to another DatabaseWrapper."""
        if self.foreign:
            with suppress(AttributeError):  # of sqlite3, or none
                self.connection.connection._zoocache_foreign = True

    def renewed(self) -> None:
        """There is another raw connection, or none."""
        self.foreign = getattr(self.connection.connection, "_zoocache_foreign", False)

    def _look_anew(self) -> None:
        self._settings = dict(self.connection.settings_dict)
        self._identity = identity_of(self.connection)
        self._digest = blake2b(self._identity, digest_size=16).digest()
        self._named = None
        self.renewed()
        raw = self.connection.connection
        self.known = self.connection, raw, self._digest
        self._raw = raw  # last: what is interrupted is done again


def name_of(connection: Any, identity: bytes) -> str:
    """Names the session of an open connection to the database that `identity` names."""
    number = _number_of(connection)
    database = blake2b(identity, digest_size=8).hexdigest()
    return f"{database} {number}" if number else ""


def _number_of(connection: Any) -> int:
    """The server's number for the session, without asking it; 0 if the driver does not say."""
    raw = connection.connection
    try:
        if connection.vendor == "postgresql":
            return int(raw.info.backend_pid)
        if connection.vendor == "mysql":
            return int(raw.thread_id())
    except Exception:  # of a driver that is not known, or a connection that is gone
        return 0
    return 0


# Lost connections, and statements of unknown completion, among the server's answers.
_UNSURE_STATES = ("08", "57P", "40003")
_UNSURE_ERRORS = frozenset([1053, 1927])  # of MySQL: shutdown, connection killed


def end_of(connection: Any, error: BaseException) -> End:
    """What became of a write or a COMMIT that raised.

    A server that answers with an error has undone it. Only then is it sure that
    nothing will take effect later.
    """
    if connection.vendor == "sqlite":
        return End.COMMITTED  # or not, but nothing is under way any more
    if not isinstance(error, DatabaseError | InterfaceError):
        # A field, a receiver or the driver's own code raised it, or it is asynchronous.
        return End.COMMITTED if _answered(connection, error) else End.UNKNOWN
    if not isinstance(error, OperationalError | InterfaceError):
        return End.COMMITTED
    cause = error.__cause__
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    if state is not None:
        return End.UNKNOWN if str(state).startswith(_UNSURE_STATES) else End.COMMITTED
    number = error.args[0] if error.args else None
    if connection.vendor == "mysql" and isinstance(number, int):
        # Those from 2000 to 2999 are the client's own.
        unsure = 2000 <= number < 3000 or number in _UNSURE_ERRORS
        return End.UNKNOWN if unsure else End.COMMITTED
    return End.UNKNOWN


def _answered(connection: Any, error: BaseException) -> bool:
    """Is the server done with all that it was sent, though the error is not the server's?"""
    raw = connection.connection
    if connection.vendor == "postgresql":
        try:
            return int(raw.info.transaction_status) in (0, 2, 3)  # idle, or in a transaction
        except Exception:  # of a driver that is not known, or a connection that is gone
            return False
    # What interrupts a driver that waits for the answer passes through its code.
    driver = type(raw).__module__.partition(".")[0]
    names = (frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__))
    return raw is not None and not any(name.partition(".")[0] == driver for name in names)


_next_look = 0.0


def look_for_ended(connection: Any, name: str, cache: Cache) -> None:
    """Ends the quarantines whose sessions are gone, or idle, at most once a second.

    `name` is that of the connection's own session, which has no open transaction. The
    statement does not pass Django: nobody counts it. Where a pooler is in between, the
    numbers that drivers know are not the server's, and only time ends a quarantine.
    """
    global _next_look
    now = time.monotonic()
    if now < _next_look or not name:
        return
    _next_look = now + _SECONDS_BETWEEN_LOOKS
    database, _, own = name.partition(" ")
    waiting = {}
    for one in quarantined(cache):
        its_database, _, number = one.session.partition(" ")
        if its_database == database and number.isdecimal():
            waiting[one.ticket] = int(number)
    if not waiting:
        return
    try:
        alive = _alive(connection)
    except Exception as error:
        logger.info("could not ask for the sessions of commits in quarantine: %s", error)
        return
    if int(own) in alive.own:
        for ticket, session in waiting.items():
            # This one has just answered, outside of transactions: it is done with all before.
            if session not in alive.every or session == int(own):
                resolve(cache, ticket)


class _Sessions(NamedTuple):
    own: set[int]
    every: set[int]


def _alive(connection: Any) -> _Sessions:
    own, every = _QUESTIONS[connection.vendor]
    with closing(connection.connection.cursor()) as cursor:
        cursor.execute(own)
        mine = {int(row[0]) for row in cursor.fetchall()}
        cursor.execute(every)
        return _Sessions(mine, {int(row[0]) for row in cursor.fetchall()})


_QUESTIONS = {
    "postgresql": ("SELECT pg_backend_pid()", "SELECT pid FROM pg_stat_activity"),
    "mysql": ("SELECT CONNECTION_ID()", "SELECT id FROM information_schema.processlist"),
}
