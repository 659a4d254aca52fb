"""The shared-memory core: a segment, and a cache of bytes in it."""

from zoocache.shm.cache import Cache, Found, Outcome
from zoocache.shm.segment import MIN_SIZE, Report, Segment, path_of, unlink

__all__ = ["MIN_SIZE", "Cache", "Found", "Outcome", "Report", "Segment", "path_of", "unlink"]
