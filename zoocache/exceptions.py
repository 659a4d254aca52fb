"""Every error that zoocache raises.

    ZooCacheError
    ├── ConfigError (ValueError)              a setting cannot be used
    ├── InvalidKeyError (ValueError)          a key is empty or too long
    ├── NotANumberError (ValueError)          the value cannot be incremented
    ├── TagError (ValueError)                 a tag is not parts joined by ":"
    ├── UnstorableError (TypeError)           a value cannot be stored faithfully
    └── SegmentError (OSError)                the shared segment cannot be used
        ├── SegmentMissingError (FileNotFoundError)    there is none of that name
        ├── SegmentPermissionError (PermissionError)   it is others', or open to them
        ├── SegmentFormatError                another layout version, truncated or garbled
        ├── SegmentSpaceError                 /dev/shm has no room for it
        ├── SegmentRetiredError               it was replaced or removed: open it again
        └── SegmentBusyError                  somebody holds its initialisation lock for too long

Each message ends with what to do about it.
"""

from __future__ import annotations


class ZooCacheError(Exception):
    """The root of every zoocache error."""


class ConfigError(ZooCacheError, ValueError):
    """A setting has a value that cannot be used."""


class InvalidKeyError(ZooCacheError, ValueError):
    """A key is empty or longer than the segment can hold."""


class NotANumberError(ZooCacheError, ValueError):
    """The value of the key is not a decimal number of 64 bits."""


class TagError(ZooCacheError, ValueError):
    """A tag is empty, has an empty part, or holds a NUL character."""


class UnstorableError(ZooCacheError, TypeError):
    """A value cannot be stored so that it comes back equal in value and type."""


class SegmentError(ZooCacheError, OSError):
    """The shared-memory segment cannot be created or attached."""


class SegmentMissingError(SegmentError, FileNotFoundError):
    """There is no segment of that name, and it was not to be created."""


class SegmentPermissionError(SegmentError, PermissionError):
    """The segment is another user's, a group's that this process is not in, or open to others.

    Or it must be replaced or removed, which only the owner of its file and root can do.
    """


class SegmentFormatError(SegmentError):
    """The segment has another layout version, is truncated, or is garbled."""


class SegmentSpaceError(SegmentError):
    """The shared-memory file system has no room for the segment."""


class SegmentRetiredError(SegmentError):
    """The segment was replaced or removed, and must be opened again."""


class SegmentBusyError(SegmentError):
    """Another process holds the segment's initialisation lock for too long."""
