"""One computation per key on the whole host: the others wait for the leader."""

from __future__ import annotations

import enum
import time
import types

from zoocache.shm._core import ffi, lib
from zoocache.shm.cache import Cache

_SLICE_MS = 50  # a wait gives way this often, so that Python can run signal handlers
_POLL_SECONDS = 0.002
_MOST_LEASE = 3600.0  # seconds: the core counts no more


class Landing(enum.IntEnum):
    """How a flight ended, as its leader says and its waiters learn."""

    STORED = lib.ZOO_OK
    FAILED = lib.ZOO_FAILED
    """The computation failed, or its leader is dead or late: the next one may try."""
    UNSTORED = lib.ZOO_UNSTORED
    """There is a result, but it could not be stored: everybody must compute it."""


class Flight:
    """A try to be the one who computes a key.

    `leads` says whether it succeeded: then `end` must be called, come what may.
    Else `wait` for who leads. Others overtake a leader that died, or that takes
    longer than `lease` seconds; it may still end what it does.
    """

    __slots__ = ("_handle", "_key", "_ticket", "leads")

    def __init__(self, cache: Cache, key: bytes, lease: float) -> None:
        ticket = ffi.new("uint64_t *")
        self._handle = cache.segment.handle
        self._key = key
        lease_ms = int(min(lease, _MOST_LEASE) * 1000)
        status = lib.zoo_flight_claim(self._handle, key, len(key), lease_ms, ticket)
        self.leads = status != lib.ZOO_LED
        # Without an owner slot it is nobody's flight: 0 is a ticket that ends nothing.
        self._ticket = int(ticket[0]) if status in (lib.ZOO_OK, lib.ZOO_LED) else 0

    def poll(self, wait_ms: int = 0) -> Landing | None:
        """How the leader's flight ended, or None if it is still under way after `wait_ms`."""
        status = lib.zoo_flight_wait(self._handle, self._key, len(self._key), self._ticket, wait_ms)
        return None if status == lib.ZOO_LED else Landing(status)

    def wait(self, seconds: float) -> Landing | None:
        """Blocks until the leader's flight has ended, or so many seconds are over (None)."""
        end = time.monotonic() + seconds
        # Under gevent and its like the leader may be a greenlet of this very thread.
        is_green = not isinstance(time.sleep, types.BuiltinFunctionType)
        while True:
            landing = self.poll(0 if is_green else _SLICE_MS)
            if landing is not None or time.monotonic() >= end:
                return landing
            if is_green:
                time.sleep(_POLL_SECONDS)

    def end(self, landing: Landing) -> None:
        """Lets the waiters go. Does nothing for a leader that was overtaken."""
        if self._ticket:
            lib.zoo_flight_end(self._handle, self._key, len(self._key), self._ticket, landing)
            self._ticket = 0
