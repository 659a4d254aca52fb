"""What the modules of the codec share: its extensions, and how it refuses."""

from __future__ import annotations

import dataclasses
from collections.abc import Container
from typing import cast

from msgpack import ExtType

from zoocache.exceptions import UnstorableError


class StaleFormat(Exception):
    """The bytes cannot be turned into a value by this process: treat it as a miss."""


def ext(code: int, data: bytes) -> ExtType:
    """Return an extension of the codec's own, whose code is negative."""
    # Past ExtType.__new__, which allows no negative code, so that ours and a caller's own
    # ExtType values never meet.
    return cast(ExtType, tuple.__new__(ExtType, (code, data)))


def type_name(kind: type) -> str:
    """Return the name of a type as messages give it: with its module, unless it is a builtin."""
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"{module}{kind.__qualname__}"


def refusal(kind: type, known: Container[type]) -> UnstorableError:
    """Return the error for a value of a type that is none of the ``known``, with what to do."""
    base = next((base for base in kind.__mro__ if base in known), None)
    if kind is memoryview:
        hint = "convert it with bytes() first"
    elif base is not None:
        hint = f"convert it to {base.__name__} first"
    elif dataclasses.is_dataclass(kind):
        hint = "declare the dataclass with zoocache.storable"
    else:
        hint = "convert it first, or declare a dataclass with zoocache.storable"
    return UnstorableError(f"a {type_name(kind)} cannot be stored: {hint}")
