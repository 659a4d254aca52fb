"""What turns the cache backend's values into bytes and back.

The first byte of what `dumps` returns is neither a digit nor a minus sign: the
backend keeps numbers as decimal text beside it.
"""

from __future__ import annotations

import pickle
from typing import Any, Protocol

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from zoocache import codec


class Serializer(Protocol):
    """What OPTIONS["SERIALIZER"] may name: a module, an object, or a class to be called."""

    def dumps(self, value: Any) -> bytes: ...
    def loads(self, data: bytes) -> Any: ...


class Pickle:
    """Any picklable type. Its output begins with 0x80: protocols from 2 on do."""

    def dumps(self, value: Any) -> bytes:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)

    def loads(self, data: bytes) -> Any:
        if data[0] != 0x80:
            raise ValueError("not stored by the pickle serializer")
        return pickle.loads(data)


class Codec:
    """What `zoocache.codec` stores; loading it runs no code. It begins with a format byte."""

    dumps = staticmethod(codec.encode)
    loads = staticmethod(codec.decode)


class Foreign:
    """A serializer of the user's, whose output gets a first byte that tells it from a number."""

    def __init__(self, serializer: Serializer) -> None:
        self.serializer = serializer

    def dumps(self, value: Any) -> bytes:
        return b"\0" + self.serializer.dumps(value)

    def loads(self, data: bytes) -> Any:
        if data[0] != 0:
            raise ValueError("stored by another serializer")
        return self.serializer.loads(data[1:])


def named(option: Any) -> Serializer:
    """The serializer that OPTIONS names; ImproperlyConfigured if it is none."""
    if option in ("pickle", "zoocache"):
        return Pickle() if option == "pickle" else Codec()
    found = import_string(option) if isinstance(option, str) else option
    if not hasattr(found, "dumps") or isinstance(found, type):
        found = found() if callable(found) else found
    if not (hasattr(found, "dumps") and hasattr(found, "loads")):
        raise ImproperlyConfigured(f"SERIALIZER {option!r} has no dumps() and loads()")
    return Foreign(found)
