"""The shared-memory segment: created or attached by name."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from dataclasses import dataclass

from zoocache.exceptions import (
    ConfigError,
    SegmentBusyError,
    SegmentError,
    SegmentFormatError,
    SegmentMissingError,
    SegmentRetiredError,
    SegmentSpaceError,
)
from zoocache.shm import names
from zoocache.shm._core import ffi, lib
from zoocache.shm.names import path_of

MIN_SIZE: int = lib.ZOO_MIN_SIZE
"""The smallest segment, in bytes."""


@dataclass(frozen=True)
class Report:
    """What `Segment.check` found in a segment at rest, in numbers of words and records.

    Dead and tentative words are harmless leftovers; lanes and flights are
    commits and computations under way. The last four must be 0.
    """

    entries: int
    entry_bytes: int
    words_dead: int
    words_tentative: int
    lanes_taken: int
    flights_taken: int
    words_misplaced: int
    keys_doubled: int
    clocks_ahead: int
    bits_leaked: int

    @property
    def sound(self) -> bool:
        broken = self.words_misplaced, self.keys_doubled, self.clocks_ahead, self.bits_leaked
        return not any(broken)


class Segment:
    """One process's handle on the shared-memory segment `name` of the effective user.

    `<gid>/<name>` is one that the group of that number shares. `size` in bytes counts only
    where the segment does not exist yet; `size=0` attaches and never creates. So does
    `entry_size`, by which a new segment's index is sized: what an entry takes on average, in
    bytes, with its key; 0 where that is not known. `wait` bounds, in seconds, the wait for
    another process that is initialising it. The handle survives fork: parent and child share
    the mapping.

    Raises SegmentError or one of its subclasses; ConfigError for a size that is
    too small or a name with a slash.
    """

    def __init__(self, name: str, size: int = 0, *, entry_size: int = 0, wait: float = 5.0) -> None:
        if not name or "\0" in name:
            raise ConfigError(f"{name!r} cannot name a segment")
        self.name = name
        self._known_retired = False
        out = ffi.new("zoo_seg **")
        encoded = os.fsencode(name)
        ffi.errno = 0
        status = lib.zoo_open_for(encoded, size, entry_size, max(0, int(wait * 1000)), out)
        if status != lib.ZOO_OK:
            raise _open_error(status, name, size, ffi.errno, _MUST_BE_REPLACED)
        # The mapping goes when the last reference does, so that no thread can
        # be inside it: there is no explicit close.
        self.handle = ffi.gc(out[0], lib.zoo_close)
        self.size: int = lib.zoo_size(self.handle)
        self.entry_size: int = lib.zoo_entry_size(self.handle)
        self.max_record: int = lib.zoo_max_record(self.handle)
        _open_here.add(self)
        if _shift:
            self.shift_time(_shift)

    def note_retired(self) -> None:
        """Is told, by whoever finds out, that the segment was replaced or removed."""
        self._known_retired = True
        for listener in retirement_listeners:
            listener(self)

    @property
    def label(self) -> str:
        """The name, without the number of the group that shares it."""
        return self.name.rpartition("/")[2]

    @property
    def retired(self) -> bool:
        """Must it be opened again? Asks the kernel whether it still has its name."""
        return self._known_retired or bool(lib.zoo_retired(self.handle))

    def __repr__(self) -> str:
        return f"<Segment {self.name!r} of {self.size} bytes>"

    def check(self) -> Report:
        """Verifies every invariant of a segment that nobody is writing to."""
        report = ffi.new("zoo_report *")
        lib.zoo_check(self.handle, report)
        return Report(*(int(getattr(report, f)) for f in Report.__dataclass_fields__))

    def shift_time(self, seconds: float) -> None:
        """Shifts what this handle takes for the time: tests of expiry need not sleep."""
        lib.zoo_skew(self.handle, int(seconds * 1000))


_open_here: weakref.WeakSet[Segment] = weakref.WeakSet()
_shift = 0.0


def shift_time(seconds: float) -> None:
    """Shifts what this process takes for the time, in every segment that it opens or has open."""
    global _shift
    _shift = seconds
    for segment in tuple(_open_here):
        segment.shift_time(seconds)


def unlink(name: str) -> bool:
    """Retires the segment and removes its name; False if there was none.

    Processes that use it find it retired and open the name anew. SegmentPermissionError: the
    file of a group's segment is another user's, who alone can remove it; it stays as it is.
    """
    status = lib.zoo_unlink(os.fsencode(name))
    if status == lib.ZOO_E_STICKY:
        raise names.sticky(name, "the segment was to be removed")
    if status == lib.ZOO_E_SYSTEM:
        raise SegmentError(ffi.errno, os.strerror(ffi.errno), path_of(name))
    return bool(status == lib.ZOO_OK)


def resize(name: str, size: int, *, entry_size: int = 0, wait: float = 5.0) -> None:
    """Replaces the segment by an empty one of `size` bytes, while it is in use.

    Every process goes on with the new one at its next operation. `entry_size` is as
    for `Segment`. `wait` bounds,
    in seconds, the wait for commits that are under way; if one takes longer,
    nobody hits in the new segment for a minute, or for its quarantine if that is
    longer, and what was stored until then is dropped. Raises what `Segment` does;
    SegmentPermissionError as `unlink` does, and then it stays as it is.
    """
    ffi.errno = 0
    status = lib.zoo_resize_for(os.fsencode(name), size, entry_size, max(0, int(wait * 1000)))
    if status != lib.ZOO_OK:
        raise _open_error(status, name, size, ffi.errno, "the segment was to be replaced")


def clear_foreign(name: str) -> bool:
    """Clears a segment that another version of zoocache made; False if that cannot be done."""
    return bool(lib.zoo_clear_foreign(os.fsencode(name)) == lib.ZOO_OK)


def is_outdated(name: str) -> bool:
    """Is the segment of an older layout, which the next process that may create it replaces?"""
    return bool(lib.zoo_outdated(os.fsencode(name)) == lib.ZOO_OK)


retirement_listeners: list[Callable[[Segment], None]] = []
"""Called, in the process that notices, when a segment was replaced or removed."""


_MUST_BE_REPLACED = "the segment is of an older version, or was given up, and must be replaced"


def _open_error(status: int, name: str, size: int, errno: int, why: str) -> Exception:
    if status == lib.ZOO_E_STICKY:
        return names.sticky(name, why)
    if status == lib.ZOO_E_OWNER:
        return names.refused(name)
    path = path_of(name)
    remake = f"Stop the processes that use it and remove {path}; the next start makes it anew."
    errors: dict[int, Exception] = {
        lib.ZOO_E_ARGUMENT: ConfigError(
            f"{name!r} cannot name a segment: use letters, digits, . _ - "
            f"and neither .lock nor .next at its end"
        ),
        lib.ZOO_E_SIZE: ConfigError(
            f"a segment of {size} bytes is too small: the least is {MIN_SIZE} bytes."
        ),
        lib.ZOO_E_NO_SEGMENT: SegmentMissingError(
            f"there is no segment {path}: open it with a size to create it."
        ),
        lib.ZOO_E_MODE: names.too_open(name, remake),
        lib.ZOO_E_FORMAT: SegmentFormatError(
            f"{path} is not a segment of this zoocache version (another layout, or not a "
            f"segment at all). {remake}"
        ),
        lib.ZOO_E_GARBLED: SegmentFormatError(f"the header of {path} is garbled. {remake}"),
        lib.ZOO_E_TRUNCATED: SegmentFormatError(
            f"{path} is shorter than its header says. {remake}"
        ),
        lib.ZOO_E_SPACE: SegmentSpaceError(
            f"no room for {size} bytes in /dev/shm ({_free_bytes()} free). Choose a smaller size, "
            f"or enlarge it (docker run --shm-size=..., mount -o remount,size=... /dev/shm)."
        ),
        lib.ZOO_E_BUSY: SegmentBusyError(
            f"another process has been initialising {path} for too long. If it is stopped or "
            f"hangs, end it: its lock goes with it."
        ),
        lib.ZOO_RETIRED: SegmentRetiredError(f"{path} is being replaced: open it again"),
        lib.ZOO_E_OWNERS: SegmentError(f"{path} has as many processes as it has places for"),
        lib.ZOO_E_MEMORY: SegmentError("out of memory while attaching " + path),
    }
    return errors.get(status) or SegmentError(errno, os.strerror(errno), path)


def _free_bytes() -> int:
    try:
        free = os.statvfs("/dev/shm")
    except OSError:
        return 0
    return free.f_bavail * free.f_frsize
