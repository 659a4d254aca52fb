"""The shared-memory core: a segment, and a cache of bytes in it."""

from zoocache.shm.cache import STAMPS_PER_SECOND, Cache, Found, Outcome
from zoocache.shm.flight import Flight, Landing
from zoocache.shm.names import path_of
from zoocache.shm.segment import (
    MIN_SIZE,
    Report,
    Segment,
    clear_foreign,
    is_outdated,
    resize,
    retirement_listeners,
    unlink,
)

__all__ = [
    "MIN_SIZE",
    "STAMPS_PER_SECOND",
    "Cache",
    "Flight",
    "Found",
    "Landing",
    "Outcome",
    "Report",
    "Segment",
    "clear_foreign",
    "is_outdated",
    "path_of",
    "resize",
    "retirement_listeners",
    "unlink",
]
