"""zoocache: a cache for one host, in shared memory.

No server to run, shared by every worker, never stale, as fast as memory.
"""

from zoocache import shm as shm  # the core before all else: where it cannot load, it says why
from zoocache.cacheable import add_deps, cacheable
from zoocache.codec import storable
from zoocache.exceptions import (
    ConfigError,
    InvalidKeyError,
    SegmentBusyError,
    SegmentError,
    SegmentFormatError,
    SegmentMissingError,
    SegmentPermissionError,
    SegmentSpaceError,
    TagError,
    UnstorableError,
    ZooCacheError,
)
from zoocache.store import clear, configure, invalidate, stats

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "InvalidKeyError",
    "SegmentBusyError",
    "SegmentError",
    "SegmentFormatError",
    "SegmentMissingError",
    "SegmentPermissionError",
    "SegmentSpaceError",
    "TagError",
    "UnstorableError",
    "ZooCacheError",
    "add_deps",
    "cacheable",
    "clear",
    "configure",
    "invalidate",
    "stats",
    "storable",
]
