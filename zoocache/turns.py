"""Who computes what is missing, and who waits for it: one computation on the whole host."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from zoocache.local import Copy
from zoocache.shm import Cache, Flight, Landing
from zoocache.shm.explain import State, explain

POLL_SECONDS = 0.002  # how often a task looks whether another has computed its value


class Found(NamedTuple):
    """A value from the cache."""

    value: Any
    fresh: bool = True
    """False for one that has expired, within its grace."""
    copy: Copy | None = None
    """By what a copy of it can be verified, where this process keeps copies."""


class Turn(NamedTuple):
    """What a caller who missed is to do: return what was found meanwhile, or compute.

    A computation that has a flight must end it: others may be waiting.
    """

    flight: Flight | None = None
    found: Found | None = None


class Wanted(NamedTuple):
    """An entry that was missed."""

    target: Cache
    entry: bytes
    find: Callable[[], Found | None]
    """Looks for it again."""
    patience: float
    """Seconds to wait for another's computation; after them, everybody computes."""
    may_wait: bool = True
    """False while others may be waiting for the caller: that could be for ever."""

    def turn(self, seen: Found | None = None) -> Turn:
        """The caller's turn, perhaps after a wait. `seen` has expired: it is returned at once
        if somebody is at it."""
        end = time.monotonic() + self.patience
        while True:
            turn = self._claim(seen)
            if isinstance(turn, Turn):
                return turn
            done = self._after(turn.wait(end - time.monotonic()))
            if done is not None:
                return done

    async def turn_async(self, seen: Found | None = None) -> Turn:
        """The same for a task."""
        end = time.monotonic() + self.patience
        while True:
            turn = self._claim(seen)
            if isinstance(turn, Turn):
                return turn
            while (landing := turn.poll()) is None and time.monotonic() < end:
                await asyncio.sleep(POLL_SECONDS)
            done = self._after(landing)
            if done is not None:
                return done

    def _claim(self, seen: Found | None) -> Turn | Flight:
        """One try to lead. A flight that another leads is returned, to be waited for."""
        flight = Flight(self.target, self.entry, self.patience)
        if flight.leads:
            return self._look_again(flight)
        if seen is not None:  # in grace: somebody is at it
            return Turn(found=seen)
        return flight if self.may_wait else Turn()

    def _look_again(self, flight: Flight) -> Turn:
        landing = Landing.FAILED
        keep = False
        try:
            # Who led until a moment ago may have stored it. A look is no get: each miss would
            # count twice.
            is_there = explain(self.target, self.entry).state is State.FRESH
            found = self.find() if is_there else None
            if found is None or not found.fresh:
                keep = True
                return Turn(flight)
            landing = Landing.STORED
            return Turn(found=found)
        finally:
            if not keep:
                flight.end(landing)

    def _after(self, landing: Landing | None) -> Turn | None:
        """What to do after a wait; None: try again to lead."""
        found = self.find()
        if found is not None:
            return Turn(found=found)
        # What was stored and is not there was invalidated: to wait for the next
        # computation, and the next, would line the callers up.
        return None if landing is Landing.FAILED else Turn()
