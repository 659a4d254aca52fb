"""What one connection has written and others must be told: announced, published, forgotten."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from contextvars import ContextVar

from zoocache import commits, notices, points
from zoocache.commits import Announced, bump
from zoocache.contrib.django.sessions import Session
from zoocache.shm.intent import End

# Above this many tags a write invalidates its tables as a whole.
MAX_TAGS = 2000

_NOTHING: frozenset[str] = frozenset()

_noted: ContextVar[list[float] | None] = ContextVar("zoocache_noted", default=None)


@contextmanager
def noting_writes() -> Iterator[list[float]]:
    """A list that gets the time, in seconds, of each commit of this thread or request."""
    writes: list[float] = []
    token = _noted.set(writes)
    try:
        yield writes
    finally:
        _noted.reset(token)


def has_written() -> bool:
    """Has this request committed something, where that is noted?"""
    return bool(_noted.get())


def _with(known: AbstractSet[str], more: Iterable[str]) -> set[str]:
    found = known if isinstance(known, set) else set(known)
    found.update(more)
    return found


class Written:
    """The writes of a connection that are not known to be over."""

    def __init__(self) -> None:
        self._announcements: list[Announced] = []
        self.by_hand: set[str] = set()  # what the user invalidated inside the transaction
        self.owed = False
        """Has anybody to be told yet? Set before there is something, and again when it is there: a
        finalizer that comes in between finds nothing, and forgets it."""
        self.forget()

    def __del__(self) -> None:
        """Nobody will know what became of what is still announced."""
        commits.settle(self._announcements, End.UNKNOWN)

    def forget(self) -> None:
        """They were rolled back, or published."""
        # Those of one write as they came; sets of their own once there is another.
        self.tables: AbstractSet[str] = _NOTHING  # dirty, by their root tags
        self.tags: AbstractSet[str] = _NOTHING
        if self.by_hand:
            self.by_hand.clear()
        self.everything = False
        self.cleared = False  # the user cleared the cache inside the transaction
        self.owed = bool(self._announcements)

    @property
    def dirty(self) -> bool:
        return bool(self.everything or self.tables)

    def add(self, written: Iterable[str], roots: Iterable[str] | None) -> None:
        """A write that is about to run; `roots` None: of any table."""
        self.owed = True
        if roots is None:
            self.everything = True
        else:
            if self.tables or self.tags:
                self.tables, self.tags = _with(self.tables, roots), _with(self.tags, written)
            else:
                self.tables, self.tags = frozenset(roots), frozenset(written)
            if len(self.tags) > MAX_TAGS:
                self.tags = frozenset(self.tables)
        self.owed = True

    def add_by_hand(self, invalidated: Iterable[str] | None) -> None:
        """What the user invalidated; None: everything."""
        self.owed = True
        if invalidated is None:
            self.cleared = True
        else:
            self.by_hand.update(invalidated)
        self.owed = True

    def announce(self, written: Iterable[str] | None, session: Session) -> None:
        """Announces what the next statement may commit; None: everything."""
        tags = None if written is None else frozenset(written)
        self.owed = True
        name, quarantine = session
        commits.announce(self._announcements, tags, name, quarantine)
        self.owed = True
        if points.hook is not None:
            points.reach("commit:announced")

    def announce_all(self, session: Session) -> None:
        """Announces everything that was written, before COMMIT."""
        if self.everything or self.cleared:
            self.announce(None, session)
        elif self.tags or self.by_hand:
            self.announce(self.tags | self.by_hand, session)

    def publish(self) -> None:
        """Invalidates what was written and is perhaps committed."""
        if self.everything or self.cleared:
            bump(None)
        elif self.tags or self.by_hand:
            bump(self.tags | self.by_hand)
        self._tell()

    def _tell(self) -> None:
        if notices.drops and self.owed:
            everything = self.everything or self.cleared
            notices.dropped(None if everything else self.tags | self.by_hand, "commit")

    def settle(self, end: End) -> None:
        """Ends what was announced, and invalidates it. May be repeated."""
        if points.hook is not None:
            points.reach("commit:done")
        noted = _noted.get()
        if noted is not None and (self.tags or self.everything):
            noted.append(time.time())
        if notices.drops and end is not End.ROLLED_BACK:
            self._tell()
        commits.settle(self._announcements, end)
        self._announcements.clear()

    def finish(self, end: End) -> None:
        """The same, and invalidates what was written and not announced. May be repeated."""
        announced = [announcement.tags for announcement in self._announcements]
        self.settle(end)
        rest = self.tags | self.by_hand
        for tags in announced:
            if tags is None:
                return
            rest -= tags
        if self.everything or self.cleared:
            bump(None)
        elif rest:
            bump(rest)
