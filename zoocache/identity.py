"""What tells one cached function from another, in every process and across deploys.

The segment outlives a deploy, so results of other code must not be met: a
function is its name, its bytecode and constants, its defaults, and the values
that it closes over. Globals and the functions that it calls are not looked at.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from zoocache import codec
from zoocache.exceptions import UnstorableError
from zoocache.local import Memo

CACHED = "_zoocache_cached"
"""The attribute of a `@cacheable` wrapper, which adds nothing to what it wraps."""

_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, Memo)
_REFERENCES = (type, types.ModuleType, *_FUNCTIONS)


def identity_of(function: Callable[..., Any], *, closure: bool) -> bytes:
    """A digest of the function; of the values that it closes over too, if `closure`.

    UnstorableError if it closes over something that cannot be named.
    """
    return _digest_of(function, closure, set())


def _digest_of(function: Any, closure: bool, seen: set[int]) -> bytes:
    if hasattr(function, CACHED):
        function = function.__wrapped__
    digest = blake2b(_named(function), digest_size=16)
    if isinstance(function, functools.partial):
        digest.update(codec.encode_name((function.args, sorted(function.keywords.items()))))
        function = function.func
        digest.update(_named(function))
    if closure and not isinstance(function, _FUNCTIONS):
        raise UnstorableError(f"{function!r} is not a function, and may have a state of its own")
    while function is not None and id(function) not in seen:
        seen.add(id(function))
        code = getattr(function, "__code__", None)
        if code is not None:
            digest.update(_code_digest(code))
        for defaults in (
            getattr(function, "__defaults__", None),
            getattr(function, "__kwdefaults__", None),
        ):
            digest.update(_default_digest(defaults))
        if closure:
            for cell in getattr(function, "__closure__", None) or ():
                digest.update(_cell_digest(cell, seen))
        function = getattr(function, "__wrapped__", None)  # below another decorator
    return digest.digest()


def name_of(thing: Any) -> str:
    """The dotted name of a function or a class, or of an object's class."""
    if isinstance(thing, functools.partial):
        return name_of(thing.func)
    if isinstance(thing, types.ModuleType):
        return thing.__name__
    if not hasattr(thing, "__qualname__"):
        thing = type(thing)
    return f"{thing.__module__}.{thing.__qualname__}"


def _named(thing: Any) -> bytes:
    return name_of(thing).encode("utf-8", "surrogatepass") + b"\0"


def _cell_digest(cell: types.CellType, seen: set[int]) -> bytes:
    try:
        value = cell.cell_contents
    except ValueError:  # not set yet
        return b"empty"
    if isinstance(value, _REFERENCES):
        # Of one name there may be several only where they are made by functions.
        is_local = "<locals>" in getattr(value, "__qualname__", "")
        if is_local and isinstance(value, (types.FunctionType, Memo)):
            return _digest_of(value, True, seen)
        if is_local:
            raise UnstorableError(f"{value!r} is made by a function")
        return _named(value)
    return codec.encode_name(value)


def _default_digest(value: object) -> bytes:
    try:
        return codec.encode_name(value)
    except UnstorableError:
        return _named(type(value))


def _code_digest(code: types.CodeType) -> bytes:
    """Changes with the code, not with its line numbers nor with the process."""
    digest = blake2b(code.co_code, digest_size=16)
    for names in (code.co_names, code.co_varnames, code.co_freevars):
        digest.update(repr(names).encode("utf-8", "surrogatepass"))
    for constant in code.co_consts:
        digest.update(_constant_digest(constant))
    return digest.digest()


def _constant_digest(constant: object) -> bytes:
    if isinstance(constant, types.CodeType):
        return _code_digest(constant)
    if isinstance(constant, frozenset):  # its order differs between processes
        return b"{" + b",".join(sorted(map(_constant_digest, constant))) + b"}"
    if isinstance(constant, tuple):
        return b"(" + b",".join(map(_constant_digest, constant)) + b")"
    return repr(constant).encode("utf-8", "surrogatepass")
