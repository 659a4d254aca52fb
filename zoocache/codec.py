"""Turn Python values into bytes and back, equal in value and in exact type.

``decode(encode(v))`` equals ``v`` with the same type all the way down, or ``encode`` raises
``UnstorableError``. One documented exception: a namedtuple is stored as a plain tuple.
``encode_rows`` and ``decode_rows`` do the same for the rows of a database query.

Layout: one format byte, then one msgpack object. The high half of the format byte is the
version; bit 0 says that the body holds marks (see below), bit 1 that it holds rows. Bytes of
another version, garbled bytes, and references that no longer resolve make decoding raise
``StaleFormat``, which callers treat as a miss.

None, bool, 64-bit int, float, str, bytes, list, dict, ``msgpack.ExtType`` and
``msgpack.Timestamp`` are plain msgpack. Lone surrogates are kept (``surrogatepass``). The rest
are msgpack extensions with negative codes, which ``ExtType`` itself cannot carry:

====  ===========  =====================================================================
code  type         payload (integers big-endian)
====  ===========  =====================================================================
-2    int          two's complement, beyond 64 bits only
-3    bytearray    the bytes
-4    complex      two doubles
-5    Decimal      ``str()`` of it, so that the exponent and a signalling NaN are kept
-6    UUID         16 bytes, and ``is_safe`` as one more unless it is unknown
-7    date         year u16, month u8, day u8
-8    time         hour u8, minute u8, second u8, fold u8, microsecond u32, zone
-9    datetime     as date, then as time
-10   timedelta    days, seconds, microseconds, i32 each
-11   Enum         msgpack [module, qualname, name]; an unnamed Flag has its int for a name
-20   tuple        a mark, empty
-21   set          a mark, empty
-22   frozenset    a mark, empty
-23   dataclass    a mark: msgpack [module, qualname, digest of the fields]
====  ===========  =====================================================================

A mark is the first item of a msgpack array and says what the other items make; those of a
dataclass are its field values in order. Arrays rather than nested payloads, so that one pass
packs everything and one limit bounds the depth.

A zone is nothing for a naive time, ``u`` for ``timezone.utc``, ``o`` and the offset in
microseconds (i64) for a fixed offset, ``n`` and the same and the name for a named one, ``z`` and
the key for a ``ZoneInfo``.

Classes are looked up in modules that are already imported, through their dictionaries: reading
the cache imports nothing, and data cannot choose code to run. Only Enum classes and dataclasses
declared with ``storable`` are ever rebuilt.
"""

from __future__ import annotations

import dataclasses
import gc
import re
import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, Flag
from functools import cached_property, partial
from hashlib import blake2b
from itertools import chain
from types import MemberDescriptorType
from typing import Any, TypeVar, cast
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo

from msgpack import ExtType, Timestamp, packb, unpackb

from zoocache.exceptions import UnstorableError

__all__ = ["StaleFormat", "decode", "decode_rows", "encode", "encode_rows", "storable"]

T = TypeVar("T")

_VERSION, _MARKED, _ROWS = 0x10, 0x01, 0x02

_INT, _BYTEARRAY, _COMPLEX, _DECIMAL, _UUID = -2, -3, -4, -5, -6
_DATE, _TIME, _DATETIME, _TIMEDELTA, _ENUM = -7, -8, -9, -10, -11
_TUPLE, _SET, _FROZENSET, _DATACLASS = -20, -21, -22, -23

_COMPLEX_LAYOUT = struct.Struct(">dd")
_DATE_LAYOUT = struct.Struct(">HBB")
_TIME_LAYOUT = struct.Struct(">BBBBI")
_DATETIME_LAYOUT = struct.Struct(">HBBBBBBI")
_TIMEDELTA_LAYOUT = struct.Struct(">iii")
_OFFSET_LAYOUT = struct.Struct(">q")
_MICROSECOND = timedelta(microseconds=1)


class StaleFormat(Exception):
    """The bytes cannot be turned into a value by this process: treat it as a miss."""


def encode(value: object) -> bytes:
    """Return the bytes of ``value``; UnstorableError if it would not come back the same."""
    return _pack(value, _VERSION)


def decode(data: bytes) -> Any:
    """Return the value that ``encode`` made ``data`` from; StaleFormat if there is none."""
    return _unpack(data, _VERSION)


def encode_rows(rows: Sequence[Sequence[object]]) -> bytes:
    """Return the bytes of database rows, each a tuple or a list; UnstorableError as ``encode``.

    Rows of one width are one flat array after that width: a little faster to read than an array
    per row, a little slower to write. Other rows are arrays of their own after a width of 0.
    """
    if not _ROW_TYPES.issuperset(map(type, rows)):
        for row in rows:
            if not isinstance(row, (tuple, list)):
                raise UnstorableError(
                    f"a row of type {_type_name(row)} cannot be stored: make it a tuple first"
                )
    widths = set(map(len, rows))
    width = widths.pop() if len(widths) == 1 else 0
    cells: Iterable[object] = chain.from_iterable(rows) if width else map(list, rows)
    return _pack([width, *cells], _VERSION | _ROWS)


def decode_rows(data: bytes) -> list[tuple[Any, ...]]:
    """Return the rows that ``encode_rows`` made ``data`` from, as tuples; StaleFormat if none."""
    cells = _unpack(data, _VERSION | _ROWS)
    if type(cells) is not list or not cells or type(cells[0]) is not int:
        raise StaleFormat("not rows")
    rest = iter(cells)
    width = next(rest)
    if 0 < width < len(cells) and (len(cells) - 1) % width == 0:
        return list(zip(*[rest] * width))  # noqa: B905 - the width divides the length
    if width != 0 or not all(type(cell) is list for cell in cells[1:]):
        raise StaleFormat("rows of uneven width")
    return [tuple(cell) for cell in rest]


@dataclasses.dataclass(frozen=True)
class _Declared:
    """What ``storable`` knows of a class."""

    mark: ExtType
    names: tuple[str, ...]
    known: frozenset[str]  # what an instance may hold: its fields and cached properties


_declared: dict[type, _Declared] = {}


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
    fields = dataclasses.fields(cast(Any, cls))
    names = tuple(field.name for field in fields)
    members = [vars(base).items() for base in cls.__mro__]
    slots = {k for k, v in chain.from_iterable(members) if type(v) is MemberDescriptorType}
    try:
        object.__new__(cls)
    except TypeError as exc:
        raise UnstorableError(f"{cls!r} cannot be rebuilt from its fields: {exc}") from exc
    if not slots.issubset(names):
        raise UnstorableError(
            f"{cls!r} has slots that are not fields ({', '.join(sorted(slots - {*names}))}): "
            "make them fields"
        )
    cached = (k for k, v in chain.from_iterable(members) if isinstance(v, cached_property))
    shape = [(field.name, _annotation(field.type)) for field in fields]
    digest = blake2b(repr(shape).encode(), digest_size=8).digest()
    mark = _ext(_DATACLASS, packb([cls.__module__, cls.__qualname__, digest]))
    _declared[cls] = _Declared(mark, names, frozenset(names) | frozenset(cached))
    return cls


def _annotation(annotation: Any) -> str:
    """Return the text of a field's type, the same in every process."""
    if isinstance(annotation, str):
        return annotation
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(annotation))


def _resolve(module: str, qualname: str) -> Any:
    """Return the class of that name in an imported module, or None. Runs no code."""
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        if found is None:
            return None
        # Not getattr: a module's __getattr__ may import, a class's may do anything.
        found = vars(found).get(part)
    return found


# Encoding


def _ext(code: int, data: bytes) -> ExtType:
    # Past ExtType.__new__, which allows no negative code, so that ours and a caller's own
    # ExtType values never meet.
    return cast(ExtType, tuple.__new__(ExtType, (code, data)))


def _pack(value: object, head: int) -> bytes:
    try:
        try:
            return _pack_as(value, head, None)
        except UnicodeEncodeError:
            # Not at once: with an error handler msgpack makes a copy of every string.
            return _pack_as(value, head, "surrogatepass")
    except UnstorableError:
        raise
    except (ArithmeticError, BufferError, RuntimeError, TypeError, ValueError) as exc:
        if isinstance(exc, RecursionError) or "recursion" in str(exc):
            raise UnstorableError(
                f"a {_type_name(value)} that is nested too deep, or that contains itself, "
                "cannot be stored: flatten it first"
            ) from exc
        raise UnstorableError(
            f"a {_type_name(value)} cannot be stored ({exc}): convert it first"
        ) from exc


def _pack_as(value: object, head: int, errors: str | None) -> bytes:
    opener = _Opener()
    pack = partial(packb, default=opener.open, strict_types=True, unicode_errors=errors)
    # In a list of its own, whose header the format byte then replaces: msgpack packs one level
    # more than it unpacks, and so whatever is packed can be unpacked.
    body = pack([value])
    # msgpack takes bytearray and memoryview for bytes before it asks `default`. Looking at every
    # type costs more than packing, so look only where a header of bytes may be.
    if (b"\xc4" in body or b"\xc5" in body or b"\xc6" in body) and _holds_buffer(value):
        body = pack([_spell_out(value)])
    if opener.marked:
        head |= _MARKED
    return b"".join((head.to_bytes(1, "big"), memoryview(body)[1:]))


class _Opener:
    """The ``default`` of one packing: returns what msgpack packs in a value's place."""

    __slots__ = ("marked",)

    def __init__(self) -> None:
        self.marked = False

    def open(self, value: Any) -> Any:
        kind = type(value)
        scalar = _WRITERS.get(kind)
        if scalar is not None:
            code, write = scalar
            return _ext(code, write(value))
        mark = _CONTAINERS.get(kind)
        if mark is not None:
            self.marked = True
            return [mark, *value]
        if isinstance(value, Enum):
            return _ext(_ENUM, _write_enum(value))
        declared = _declared.get(kind)
        if declared is not None:
            self.marked = True
            return [declared.mark, *_field_values(value, declared)]
        if isinstance(value, tuple) and isinstance(getattr(kind, "_fields", None), tuple):
            self.marked = True
            return [_CONTAINERS[tuple], *value]
        raise _refusal(value)


def _field_values(value: Any, declared: _Declared) -> list[object]:
    kind = type(value)
    if _resolve(kind.__module__, kind.__qualname__) is not kind:
        raise UnstorableError(
            f"a {_type_name(value)} cannot be stored: its class is not to be found under that "
            "name; define it at the top of a module"
        )
    extra = getattr(value, "__dict__", {}).keys() - declared.known
    if extra:
        raise UnstorableError(
            f"a {_type_name(value)} with attributes that are not fields "
            f"({', '.join(sorted(extra))}) cannot be stored: make them fields"
        )
    try:
        return [getattr(value, name) for name in declared.names]
    except AttributeError as exc:
        raise UnstorableError(
            f"a {_type_name(value)} with an unset field cannot be stored ({exc}): set it first"
        ) from exc


def _write_enum(member: Enum) -> bytes:
    kind = type(member)
    name = member.name if member.name in kind.__members__ else member.value
    if _find_enum(kind.__module__, kind.__qualname__, name) is not member:
        raise UnstorableError(
            f"{member!r} of {_type_name(member)} cannot be stored: it is not to be found under "
            "that name; define the Enum at the top of a module, or store its value"
        )
    return cast(bytes, packb([kind.__module__, kind.__qualname__, name]))


def _find_enum(module: str, qualname: str, name: object) -> Enum | None:
    kind = _resolve(module, qualname)
    if not (isinstance(kind, type) and issubclass(kind, Enum)):
        return None
    if type(name) is int and issubclass(kind, Flag):
        return kind(name)
    return kind.__members__.get(cast(str, name))


def _write_zone(zone: tzinfo | None) -> bytes:
    if zone is None:
        return b""
    if zone is timezone.utc:
        return b"u"
    if type(zone) is timezone:
        # What pickle uses; tzname() does not tell a given name from the default one.
        offset, *name = cast(Any, zone).__getinitargs__()
        written = _OFFSET_LAYOUT.pack(offset // _MICROSECOND)
        return b"n" + written + name[0].encode("utf-8", "surrogatepass") if name else b"o" + written
    # A ZoneInfo read from a file may have any key, so the key must lead back to it.
    if type(zone) is ZoneInfo and zone.key and ZoneInfo(zone.key) is zone:
        return b"z" + zone.key.encode()
    raise UnstorableError(
        f"a time zone of type {_type_name(zone)} cannot be stored: use datetime.timezone or "
        "zoneinfo.ZoneInfo(key)"
    )


def _write_time(t: time) -> bytes:
    return _TIME_LAYOUT.pack(t.hour, t.minute, t.second, t.fold, t.microsecond) + _write_zone(
        t.tzinfo
    )


def _write_datetime(d: datetime) -> bytes:
    written = _DATETIME_LAYOUT.pack(
        d.year, d.month, d.day, d.hour, d.minute, d.second, d.fold, d.microsecond
    )
    return written if d.tzinfo is None else written + _write_zone(d.tzinfo)


def _write_uuid(u: UUID) -> bytes:
    if u.is_safe is SafeUUID.unknown:
        return u.bytes
    return u.bytes + (b"\x00" if u.is_safe is SafeUUID.safe else b"\x01")


_WRITERS: dict[type, tuple[int, Callable[[Any], bytes]]] = {
    int: (_INT, lambda n: n.to_bytes(n.bit_length() // 8 + 1, "big", signed=True)),
    complex: (_COMPLEX, lambda z: _COMPLEX_LAYOUT.pack(z.real, z.imag)),
    Decimal: (_DECIMAL, lambda d: str(d).encode()),
    UUID: (_UUID, _write_uuid),
    date: (_DATE, lambda d: _DATE_LAYOUT.pack(d.year, d.month, d.day)),
    time: (_TIME, _write_time),
    datetime: (_DATETIME, _write_datetime),
    timedelta: (
        _TIMEDELTA,
        lambda d: _TIMEDELTA_LAYOUT.pack(d.days, d.seconds, d.microseconds),
    ),
}
_CONTAINERS: dict[type, ExtType] = {
    tuple: _ext(_TUPLE, b""),
    set: _ext(_SET, b""),
    frozenset: _ext(_FROZENSET, b""),
}
_ROW_TYPES = frozenset([tuple, list])
_OPEN = frozenset([list, dict, tuple, set, frozenset])
_BUFFERS = frozenset([bytearray, memoryview])
_PLAIN = frozenset([type(None), bool, int, float, str, bytes, ExtType, Timestamp])
_LEAVES = _PLAIN | _WRITERS.keys()
_BASES = _LEAVES | _OPEN | {bytearray}


def _holds_buffer(value: object) -> bool:
    """Tell whether a bytearray or a memoryview is anywhere in a value that msgpack packed."""
    level: list[Any] = [value]
    while level:
        types = set(map(type, level))
        if not types.isdisjoint(_BUFFERS):
            return True
        if types <= _LEAVES:
            return False
        if not types <= _OPEN:
            opened = (_open(item) for item in level if type(item) not in _LEAVES)
            level = [item for item in opened if type(item) in _OPEN]
        # The items of all these containers in one call, less the keys of a dict of strings.
        level = gc.get_referents(*level)
    return False


def _open(value: Any) -> Any:
    return value if type(value) in _OPEN else _Opener().open(value)


def _spell_out(value: Any) -> Any:
    """Return the value with every container opened and every bytearray as an extension."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is bytearray:
        return _ext(_BYTEARRAY, bytes(value))
    if kind is list:
        return [_spell_out(item) for item in value]
    if kind is dict:
        for key in value:
            # A key cannot be replaced by its msgpack form, which need not be hashable.
            if _holds_buffer(key):
                raise _refusal(key)
        return {key: _spell_out(item) for key, item in value.items()}
    opened = _Opener().open(value)
    return [_spell_out(item) for item in opened] if type(opened) is list else opened


def _type_name(value: object) -> str:
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"{module}{kind.__qualname__}"


def _refusal(value: object) -> UnstorableError:
    kind = type(value)
    base = next((b for b in kind.__mro__ if b in _BASES), None)
    if kind is memoryview:
        hint = "convert it with bytes() first"
    elif base is not None:
        hint = f"convert it to {base.__name__} first"
    elif dataclasses.is_dataclass(kind):
        hint = "declare the dataclass with zoocache.storable"
    else:
        hint = "convert it first, or declare a dataclass with zoocache.storable"
    return UnstorableError(f"a {_type_name(value)} cannot be stored: {hint}")


# Decoding


def _unpack(data: bytes, head: int) -> Any:
    if not data:
        raise StaleFormat("no bytes")
    found, body = data[0], memoryview(data)[1:]
    # Bytes from shared memory are input: whatever goes wrong while reading them is a miss.
    try:
        if found == head:
            return _unpack_plain(body)
        if found == head | _MARKED:
            builder = _Builder()
            value = _unpack_with(body, ext_hook=builder.ext, list_hook=builder.list)
            if not builder.pending:
                return value
    except StaleFormat:
        raise
    except Exception as exc:
        raise StaleFormat(f"{type(exc).__name__}: {exc}") from exc
    raise StaleFormat(f"format byte {found:#04x} where {head:#04x} is wanted, or a stray mark")


class _Mark:
    __slots__ = ("build",)

    def __init__(self, build: Callable[[list[Any]], Any]) -> None:
        self.build = build


class _Builder:
    """The hooks of one unpacking with marks."""

    __slots__ = ("pending",)

    def __init__(self) -> None:
        self.pending = 0  # marks read and not used; any left at the end were not first items

    def ext(self, code: int, data: bytes) -> Any:
        build = _BUILDERS.get(code)
        if build is None:
            if code != _DATACLASS:
                return _read_ext(code, data)
            build = _dataclass_builder(data)
        self.pending += 1
        return _Mark(build)

    def list(self, items: list[Any]) -> Any:
        if items and type(items[0]) is _Mark:
            self.pending -= 1
            return items.pop(0).build(items)
        return items


_BUILDERS: dict[int, Callable[[list[Any]], Any]] = {
    _TUPLE: tuple,
    _SET: set,
    _FROZENSET: frozenset,
}


def _dataclass_builder(data: bytes) -> Callable[[list[Any]], Any]:
    module, qualname, _ = unpackb(data)
    cls = _resolve(module, qualname)
    declared = _declared.get(cls) if isinstance(cls, type) else None
    if declared is None or declared.mark.data != data:
        raise StaleFormat(f"{module}.{qualname} is not imported, not declared, or has changed")
    return partial(_rebuild, cls, declared.names)


def _rebuild(cls: type, names: tuple[str, ...], values: list[Any]) -> Any:
    instance: Any = object.__new__(cls)
    for name, value in zip(names, values, strict=True):
        object.__setattr__(instance, name, value)
    return instance


def _read_ext(code: int, data: bytes) -> Any:
    read = _READERS.get(code)
    if read is not None:
        return read(data)
    if code >= 0:
        return ExtType(code, data)
    raise StaleFormat(f"extension {code}")


def _read_zone(data: bytes) -> tzinfo | None:
    kind, rest = data[:1], data[1:]
    if kind == b"":
        return None
    if kind == b"u" and not rest:
        return timezone.utc
    if kind == b"z":
        return ZoneInfo(rest.decode())
    offset = _OFFSET_LAYOUT.unpack(rest[:8])[0] * _MICROSECOND
    if kind == b"o" and len(rest) == 8:
        return timezone(offset)
    if kind == b"n":
        return timezone(offset, rest[8:].decode("utf-8", "surrogatepass"))
    raise StaleFormat("zone")


def _read_time(data: bytes) -> time:
    hour, minute, second, fold, microsecond = _TIME_LAYOUT.unpack_from(data)
    zone = _read_zone(data[_TIME_LAYOUT.size :])
    return time(hour, minute, second, microsecond, zone, fold=fold)


def _read_datetime(data: bytes) -> datetime:
    year, month, day, hour, minute, second, fold, us = _DATETIME_LAYOUT.unpack_from(data)
    zone = _read_zone(data[_DATETIME_LAYOUT.size :])
    return datetime(year, month, day, hour, minute, second, us, zone, fold=fold)


def _read_uuid(data: bytes) -> UUID:
    if len(data) == 16:
        return UUID(bytes=data)
    is_safe = {b"\x00": SafeUUID.safe, b"\x01": SafeUUID.unsafe}[data[16:]]
    return UUID(bytes=data[:16], is_safe=is_safe)


def _read_enum(data: bytes) -> Enum:
    module, qualname, name = unpackb(data)
    member = _find_enum(module, qualname, name)
    if member is None:
        raise StaleFormat(f"{module}.{qualname}.{name} is not imported, or has changed")
    return member


_READERS: dict[int, Callable[[bytes], Any]] = {
    _INT: partial(int.from_bytes, byteorder="big", signed=True),
    _BYTEARRAY: bytearray,
    _COMPLEX: lambda data: complex(*_COMPLEX_LAYOUT.unpack(data)),
    _DECIMAL: lambda data: Decimal(data.decode("ascii")),
    _UUID: _read_uuid,
    _DATE: lambda data: date(*_DATE_LAYOUT.unpack(data)),
    _TIME: _read_time,
    _DATETIME: _read_datetime,
    _TIMEDELTA: lambda data: timedelta(*_TIMEDELTA_LAYOUT.unpack(data)),
    _ENUM: _read_enum,
}
_unpack_with = partial(unpackb, strict_map_key=False, unicode_errors="surrogatepass")
_unpack_plain = partial(_unpack_with, ext_hook=_read_ext)
