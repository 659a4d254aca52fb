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

Reading imports nothing, and data cannot choose code to run: only members of Enum classes, and
dataclasses declared with ``storable``, are ever rebuilt, and only by ``zoocache.references``.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from functools import partial
from itertools import chain
from typing import Any

from msgpack import ExtType, Timestamp, packb, unpackb

from zoocache import references
from zoocache.exceptions import UnstorableError
from zoocache.references import DATACLASS, ENUM, storable
from zoocache.scalars import READERS, WRITERS
from zoocache.wire import StaleFormat, ext, refusal, type_name

__all__ = ["StaleFormat", "decode", "decode_rows", "encode", "encode_rows", "storable"]

_VERSION, _MARKED, _ROWS = 0x10, 0x01, 0x02

_MARKS: dict[type, ExtType] = {
    tuple: ext(-20, b""),
    set: ext(-21, b""),
    frozenset: ext(-22, b""),
}
_BUILDERS = {mark.code: kind for kind, mark in _MARKS.items()}
_READERS = {**READERS, ENUM: references.read_enum}

_PLAIN = frozenset([type(None), bool, int, float, str, bytes, ExtType, Timestamp])
_LEAVES = _PLAIN | WRITERS.keys()
_OPEN = frozenset([list, dict, *_MARKS])
_KNOWN = _LEAVES | _OPEN
_BUFFERS = frozenset([bytearray, memoryview])


def learn(kind: type) -> bool:
    """Put a type that is not known into WRITERS, and tell so; zoocache.testing replaces this."""
    return False


def encode(value: object) -> bytes:
    """Return the bytes of ``value``; UnstorableError if it would not come back the same."""
    return _pack(value, _VERSION)


def encode_name(value: object) -> bytes:
    """Return bytes that tell ``value`` from every other value, for keys; UnstorableError as above.

    Stricter than ``encode``: a namedtuple is not the tuple that it would come back as, and an
    Enum member counts with its value, which another version of the code may have changed.
    """
    return _pack(value, _VERSION, _Namer())


def decode(data: bytes) -> Any:
    """Return the value that ``encode`` made ``data`` from; StaleFormat if there is none."""
    return _unpack(data, _VERSION)


def encode_rows(rows: Sequence[Sequence[object]]) -> bytes:
    """Return the bytes of database rows, each a tuple or a list; UnstorableError as ``encode``.

    Rows of one width are one flat array after that width: a little faster to read than an array
    per row, a little slower to write. Other rows are arrays of their own after a width of 0.
    """
    for kind in set(map(type, rows)):
        if not issubclass(kind, (tuple, list)):
            raise UnstorableError(
                f"a row of type {type_name(kind)} cannot be stored: make it a tuple first"
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
    width = cells[0]
    if 0 < width == len(cells) - 1:  # one row
        return [tuple(cells[1:])]
    rest = iter(cells)
    next(rest)
    if 0 < width < len(cells) and (len(cells) - 1) % width == 0:
        return list(zip(*[rest] * width))  # noqa: B905 - the width divides the length
    if width != 0 or not all(type(cell) is list for cell in cells[1:]):
        raise StaleFormat("rows of uneven width")
    return [tuple(cell) for cell in rest]


def _pack(value: object, head: int, opener: _Opener | None = None) -> bytes:
    opener = opener or _Opener()
    try:
        try:
            return _pack_as(value, head, None, opener)
        except UnicodeEncodeError:
            # Not at once: with an error handler msgpack makes a copy of every string.
            return _pack_as(value, head, "surrogatepass", opener)
    except UnstorableError:
        raise
    except (ArithmeticError, BufferError, RuntimeError, TypeError, ValueError) as exc:
        if isinstance(exc, RecursionError) or "recursion" in str(exc):
            raise UnstorableError(
                f"a {type_name(type(value))} that is nested too deep, or that contains itself, "
                "cannot be stored: flatten it first"
            ) from exc
        raise UnstorableError(
            f"a {type_name(type(value))} cannot be stored ({exc}): convert it first"
        ) from exc


def _pack_as(value: object, head: int, errors: str | None, opener: _Opener) -> bytes:
    pack = partial(packb, default=opener.open, strict_types=True, unicode_errors=errors)
    # In a list of its own, whose header the format byte then replaces: msgpack packs one level
    # more than it unpacks, and so whatever is packed can be unpacked.
    body = pack([value])
    # msgpack takes bytearray and memoryview for bytes before it asks `default`. Looking at every
    # type costs more than packing, so look only where a header of bytes may be.
    if (b"\xc4" in body or b"\xc5" in body or b"\xc6" in body) and _holds_buffer(value):
        if isinstance(opener, _Namer):
            raise refusal(bytearray, _KNOWN)
        body = pack([_spell_out(value)])
    if opener.marked:
        head |= _MARKED
    return b"".join((head.to_bytes(1, "big"), memoryview(body)[1:]))


class _Opener:
    """The ``default`` of one packing: returns what msgpack packs in a value's place."""

    __slots__ = ("marked",)

    def __init__(self) -> None:
        self.marked = False

    def open(self, value: Any) -> ExtType | list[Any]:
        kind = type(value)
        scalar = WRITERS.get(kind)
        if scalar is not None:
            code, write = scalar
            return ext(code, write(value))
        mark = _MARKS.get(kind)
        if mark is not None:
            self.marked = True
            return [mark, *value]
        if isinstance(value, Enum):
            return ext(ENUM, references.write_enum(value))
        self.marked = True
        declaration = references.declarations.get(kind)
        if declaration is not None:
            return [declaration.mark, *declaration.take_apart(value)]
        if isinstance(value, tuple) and isinstance(getattr(kind, "_fields", None), tuple):
            return [_MARKS[tuple], *value]
        if learn(kind):
            return self.open(value)
        raise refusal(kind, _KNOWN)


class _Namer(_Opener):
    """Opens values for a name, which is compared and never read."""

    __slots__ = ()

    def open(self, value: Any) -> ExtType | list[Any]:
        if isinstance(value, Enum):
            return [super().open(value), value.value]
        if isinstance(value, tuple) and type(value) is not tuple:
            raise refusal(type(value), _KNOWN)
        return super().open(value)


def _holds_buffer(value: object) -> bool:
    """Tell whether a bytearray or a memoryview is anywhere in a value that msgpack packed."""
    opener = _Opener()
    level: list[Any] = [value]
    while level:
        types = set(map(type, level))
        if not types.isdisjoint(_BUFFERS):
            return True
        if types <= _LEAVES:
            return False
        if not types <= _OPEN:
            rest = (item for item in level if type(item) not in _LEAVES)
            opened = (item if type(item) in _OPEN else opener.open(item) for item in rest)
            level = [item for item in opened if type(item) in _OPEN]
        # The items of all these containers in one call, less the keys of a dict of strings.
        level = gc.get_referents(*level)
    return False


def _spell_out(value: Any) -> Any:
    """Return the value with every container opened and every bytearray as an extension."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is list:
        return [_spell_out(item) for item in value]
    if kind is dict:
        # A key cannot be replaced by its msgpack form, which need not be hashable.
        if any(map(_holds_buffer, value)):
            raise UnstorableError(
                "a dict key that is or holds a bytearray or a memoryview cannot be stored: "
                "convert it with bytes() first"
            )
        return {key: _spell_out(item) for key, item in value.items()}
    opened = _Opener().open(value)
    return [_spell_out(item) for item in opened] if type(opened) is list else opened


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
        build = references.rebuilder(data) if code == DATACLASS else _BUILDERS.get(code)
        if build is None:
            return _read_ext(code, data)
        self.pending += 1
        return _Mark(build)

    def list(self, items: list[Any]) -> Any:
        if items and type(items[0]) is _Mark:
            self.pending -= 1
            return items.pop(0).build(items)
        return items


def _read_ext(code: int, data: bytes) -> Any:
    read = _READERS.get(code)
    if read is not None:
        return read(data)
    if code >= 0:
        return ExtType(code, data)
    raise StaleFormat(f"extension {code}")


_unpack_with = partial(unpackb, strict_map_key=False, unicode_errors="surrogatepass")
_unpack_plain = partial(_unpack_with, ext_hook=_read_ext)
