"""Commits under way: what is about to change is announced before, invalidated after.

In between, nobody is served what depends on it: not the old value once the new
one can be read, whenever that is, and whether or not the committer lives on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Protocol

from zoocache import store
from zoocache.exceptions import ZooCacheError
from zoocache.shm.intent import MOST_TAGS, End, Intent

logger = logging.getLogger("zoocache.commits")

_UNKNOWN = End.UNKNOWN  # to ask an enum takes longer than a call


class Announced(Protocol):
    """One who can settle what was announced: an Intent, mostly, or an Announcement."""

    tags: frozenset[str] | None
    session: str
    quarantine: float

    def settle(self, end: End, /) -> bool: ...


def announce(
    announced: list[Announced], tags: frozenset[str] | None, session: str, quarantine: float
) -> None:
    """Announces the tags of a commit; None: everything. Raises nothing.

    Who can settle that is in the list before anybody is told: whatever exception comes in
    between, it will be settled.
    """
    try:
        target = store.cache()
        few = tags is None or len(tags) <= MOST_TAGS
        if few and target is not None and target.announce(announced, tags, session, quarantine):
            return
    except ZooCacheError:
        pass  # an Announcement meets the same, and says so
    announcement = Announcement(tags, session=session, quarantine=quarantine)
    announced.append(announcement)
    announcement.make()


def settle(announced: Iterable[Announced], end: End) -> None:
    """Invalidates the tags, in every process, and ends the announcements.

    Raises nothing. After an asynchronous exception it can be done again.
    """
    for one in announced:
        if not one.settle(end):
            other = Announcement(one.tags, session=one.session, quarantine=one.quarantine)
            other.settle(end)


class Announcement:
    """The tags of one commit; None: everything. It can be made in any segment.

    Where they are too many for an announcement, it is their roots that are
    announced, and the tags that are invalidated.
    """

    __slots__ = ("_announced", "_intents", "quarantine", "session", "tags")

    def __init__(self, tags: frozenset[str] | None, *, session: str, quarantine: float) -> None:
        self.tags = tags
        self.session = session
        self.quarantine = quarantine
        self._announced = tags if tags is None or len(tags) <= MOST_TAGS else _few(tags)
        self._intents: list[Intent] = []

    def make(self) -> None:
        """Announces, in the segment and in one that is replacing it. Raises nothing."""
        try:
            for _ in range(store.MOST_SUCCESSORS):
                target = store.cache() or store.writer()
                if target is None or target.announce(
                    self._intents, self._announced, self.session, self.quarantine
                ):
                    return
                target.segment.note_retired()
        except ZooCacheError as error:
            # The invalidation meets the same, and says so for each write.
            logger.debug("a commit was not announced: %s", error)

    def settle(self, end: End) -> bool:
        """Invalidates the tags, and ends the announcement, wherever it is; True, after that."""
        if self._announced is self.tags or end is _UNKNOWN:
            told = bool(self._intents)
            for intent in self._intents:  # each of them
                told = intent.settle(end) and told
            if not told:
                if end is _UNKNOWN:
                    self._announce_anew()
                bump(self.tags)
        else:
            bump(self.tags)  # they are finer than what was announced
            for intent in self._intents:
                intent.settle(End.ROLLED_BACK)
        self._intents = []
        return True

    def _announce_anew(self) -> None:
        """The quarantine is in a segment that was replaced, or there was no lane for it."""
        before = len(self._intents)
        self.make()
        for intent in self._intents[before:]:
            intent.settle(End.UNKNOWN)


def _few(tags: frozenset[str]) -> frozenset[str] | None:
    roots = frozenset(tag.partition(":")[0] for tag in tags)
    return roots if len(roots) <= MOST_TAGS else None


def bump(tags: Iterable[str] | None) -> None:
    """Invalidates after a write; None: everything. The write is done: a failure is logged."""
    try:
        if tags is None:
            store.bump_everything()
        else:
            store.bump(tags)
    except ZooCacheError as error:
        logger.error(
            "a write was not invalidated, other processes may serve stale rows: %s", error,
            extra={"zoocache_tags": None if tags is None else sorted(tags)},
        )  # fmt: skip
