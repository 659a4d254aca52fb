"""Values stored by reference to their class: declared dataclasses, and members of an Enum.

A reference names a module and a class in it. Classes are looked up in modules that are already
imported, through their dictionaries: reading imports nothing, and data cannot choose code to
run. What a reference no longer leads to is ``StaleFormat``, and what it would not lead back to
is ``UnstorableError`` at once.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable
from enum import Enum, Flag
from functools import cached_property
from hashlib import blake2b
from itertools import chain
from types import MemberDescriptorType
from typing import Any, TypeVar, cast

from msgpack import ExtType, packb, unpackb

from zoocache.exceptions import UnstorableError
from zoocache.wire import StaleFormat, ext, type_name

T = TypeVar("T")

ENUM, DATACLASS = -11, -23


@dataclasses.dataclass(frozen=True)
class Declaration:
    """What ``storable`` knows of a class: enough to take instances apart and rebuild them."""

    cls: type
    mark: ExtType
    names: tuple[str, ...]
    known: frozenset[str]  # what an instance may hold: its fields and cached properties

    def take_apart(self, instance: Any) -> list[object]:
        """Return the values of the fields; UnstorableError if the instance is not just those."""
        if _resolve(self.cls.__module__, self.cls.__qualname__) is not self.cls:
            raise UnstorableError(
                f"a {type_name(self.cls)} cannot be stored: its class is not to be found under "
                "that name; define it at the top of a module"
            )
        extra = getattr(instance, "__dict__", {}).keys() - self.known
        if extra:
            raise UnstorableError(
                f"a {type_name(self.cls)} with attributes that are not fields "
                f"({', '.join(sorted(extra))}) cannot be stored: make them fields"
            )
        try:
            return [getattr(instance, name) for name in self.names]
        except AttributeError as exc:
            raise UnstorableError(
                f"a {type_name(self.cls)} with an unset field cannot be stored ({exc}): "
                "set it first"
            ) from exc

    def rebuild(self, values: list[Any]) -> Any:
        """Return an instance with these values of the fields, running none of its code."""
        instance: Any = object.__new__(self.cls)
        for name, value in zip(self.names, values, strict=True):
            object.__setattr__(instance, name, value)
        return instance


declarations: dict[type, Declaration] = {}


def storable(cls: type[T]) -> type[T]:
    """Declare that instances of a dataclass may be stored; put it above ``@dataclass``.

    Instances are stored as a reference to the class and the values of all fields, and rebuilt
    without calling ``__init__`` or ``__post_init__``. Values of cached properties are left out.
    Bytes written before the fields changed become misses. UnstorableError for a class that is
    not a dataclass, or that holds state outside its fields.
    """
    # vars(), for a subclass of a dataclass has its parent's fields.
    if not isinstance(cls, type) or "__dataclass_fields__" not in vars(cls):
        raise UnstorableError(f"{cls!r} is not a dataclass: put @storable above @dataclass")
    try:
        object.__new__(cls)
    except TypeError as exc:
        raise UnstorableError(f"{cls!r} cannot be rebuilt from its fields: {exc}") from exc
    fields = dataclasses.fields(cast(Any, cls))
    names = tuple(field.name for field in fields)
    members = list(chain.from_iterable(vars(base).items() for base in cls.__mro__))
    slots = {name for name, member in members if type(member) is MemberDescriptorType}
    hidden = slots.difference(names)
    if hidden:
        raise UnstorableError(
            f"{cls!r} has slots that are not fields ({', '.join(sorted(hidden))}): make them fields"
        )
    cached = {name for name, member in members if isinstance(member, cached_property)}
    shape = [(field.name, _annotation(field.type)) for field in fields]
    digest = blake2b(repr(shape).encode(), digest_size=8).digest()
    mark = ext(DATACLASS, packb([cls.__module__, cls.__qualname__, digest]))
    declarations[cls] = Declaration(cls, mark, names, frozenset(cached.union(names)))
    return cls


def _annotation(annotation: Any) -> str:
    """Return the text of a field's type, the same in every process."""
    if isinstance(annotation, str):
        return annotation
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(annotation))


def rebuilder(reference: bytes) -> Callable[[list[Any]], Any]:
    """Return what rebuilds an instance from its field values; StaleFormat if nothing does now."""
    module, qualname, _ = unpackb(reference)
    cls = _resolve(module, qualname)
    # Looked up only if it is a class: hashing anything else could run code.
    declaration = declarations.get(cls) if isinstance(cls, type) else None
    if declaration is None or declaration.mark.data != reference:
        raise StaleFormat(f"{module}.{qualname} is not imported, not declared, or has changed")
    return declaration.rebuild


def write_enum(member: Enum) -> bytes:
    """Return the reference to a member; UnstorableError if it would not lead back to it."""
    kind = type(member)
    # A combination of flags has no name of its own, so its value stands for it.
    name = member.name if member.name in kind.__members__ else member.value
    if _find_enum(kind.__module__, kind.__qualname__, name) is not member:
        raise UnstorableError(
            f"{member!r} of {type_name(kind)} cannot be stored: it is not to be found under "
            "that name; define the Enum at the top of a module, or store its value"
        )
    return cast(bytes, packb([kind.__module__, kind.__qualname__, name]))


def read_enum(reference: bytes) -> Enum:
    """Return the member that ``write_enum`` was given; StaleFormat if there is none now."""
    module, qualname, name = unpackb(reference)
    member = _find_enum(module, qualname, name)
    if member is None:
        raise StaleFormat(f"{module}.{qualname}.{name} is not imported, or has changed")
    return member


def _find_enum(module: str, qualname: str, name: object) -> Enum | None:
    kind = _resolve(module, qualname)
    if not (isinstance(kind, type) and issubclass(kind, Enum)):
        return None
    if type(name) is int and issubclass(kind, Flag):
        return kind(name)
    return kind.__members__.get(cast(str, name))


def _resolve(module: str, qualname: str) -> Any:
    """Return the class of that name in an imported module, or None. Runs no code."""
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        if found is None:
            return None
        # Not getattr: a module's __getattr__ may import, a class's may do anything.
        found = vars(found).get(part)
    return found
