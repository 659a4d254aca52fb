"""Segments of a test run's own: each name gets a suffix, and no segment is larger than a bound.

Both are environment variables, so that whatever a test starts (a live server, a worker) uses the
segments of the test. zoocache.testing sets them.
"""

from __future__ import annotations

import os
import zlib

SUFFIX = "ZOOCACHE_TEST_SUFFIX"
SIZE = "ZOOCACHE_TEST_SIZE"
"""In bytes."""

_MOST_CHARACTERS = 64


def name_of(name: str) -> str:
    """The name of the segment to use in this run where the settings say `name`."""
    suffix = os.environ.get(SUFFIX, "")
    if not suffix or name.endswith(suffix):
        return name
    room = _MOST_CHARACTERS - len(suffix) - 1
    if len(name) > room:  # cut short, and still another than others that begin like it
        name = f"{name[: room - 9]}-{zlib.crc32(name.encode()):08x}"
    return f"{name}-{suffix}"


def size_of(size: int) -> int:
    """The size, in bytes, of a segment that is made in this run where the settings say `size`."""
    bound = os.environ.get(SIZE, "")
    return min(size, int(bound)) if bound.isdecimal() else size


def is_on() -> bool:
    """Are segments those of a test run?"""
    return bool(os.environ.get(SUFFIX))
