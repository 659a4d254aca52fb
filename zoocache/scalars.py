"""Scalars that msgpack lacks, written to bytes and read from them.

``WRITERS`` and ``READERS`` hold a function for each; ``zoocache.codec`` documents the payloads.
A writer gets a value of exactly its type, and raises ``UnstorableError`` if the value would not
come back the same. A reader gets any bytes, and may raise any exception.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import partial
from typing import Any, cast
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo

from zoocache.exceptions import UnstorableError
from zoocache.wire import StaleFormat, type_name

Writer = Callable[[Any], bytes]
Reader = Callable[[bytes], Any]

_COMPLEX = struct.Struct(">dd")
_DATE = struct.Struct(">HBB")
_TIME = struct.Struct(">BBBBI")
_DATETIME = struct.Struct(">HBBBBBBI")
_TIMEDELTA = struct.Struct(">iii")
_OFFSET = struct.Struct(">q")
_MICROSECOND = timedelta(microseconds=1)


def _write_int(n: int) -> bytes:
    return n.to_bytes(n.bit_length() // 8 + 1, "big", signed=True)


def _write_complex(z: complex) -> bytes:
    return _COMPLEX.pack(z.real, z.imag)


def _read_complex(data: bytes) -> complex:
    return complex(*_COMPLEX.unpack(data))


def _write_decimal(d: Decimal) -> bytes:
    return str(d).encode()


def _read_decimal(data: bytes) -> Decimal:
    return Decimal(data.decode("ascii"))


def _write_uuid(u: UUID) -> bytes:
    if u.is_safe is SafeUUID.unknown:
        return u.bytes
    return u.bytes + (b"\x00" if u.is_safe is SafeUUID.safe else b"\x01")


def _read_uuid(data: bytes) -> UUID:
    if len(data) == 16:
        return UUID(bytes=data)
    is_safe = {b"\x00": SafeUUID.safe, b"\x01": SafeUUID.unsafe}[data[16:]]
    return UUID(bytes=data[:16], is_safe=is_safe)


def _write_date(d: date) -> bytes:
    return _DATE.pack(d.year, d.month, d.day)


def _read_date(data: bytes) -> date:
    return date(*_DATE.unpack(data))


def _write_time(t: time) -> bytes:
    clock = _TIME.pack(t.hour, t.minute, t.second, t.fold, t.microsecond)
    return clock + _write_zone(t.tzinfo)


def _read_time(data: bytes) -> time:
    hour, minute, second, fold, microsecond = _TIME.unpack_from(data)
    zone = _read_zone(data[_TIME.size :])
    return time(hour, minute, second, microsecond, zone, fold=fold)


def _write_datetime(d: datetime) -> bytes:
    clock = _DATETIME.pack(
        d.year, d.month, d.day, d.hour, d.minute, d.second, d.fold, d.microsecond
    )
    # A naive one without the call, which would cost half as much again.
    return clock if d.tzinfo is None else clock + _write_zone(d.tzinfo)


def _read_datetime(data: bytes) -> datetime:
    year, month, day, hour, minute, second, fold, microsecond = _DATETIME.unpack_from(data)
    # Of a naive one without the call, as above.
    zone = _read_zone(data[_DATETIME.size :]) if len(data) > _DATETIME.size else None
    return datetime(year, month, day, hour, minute, second, microsecond, zone, fold=fold)


def _write_timedelta(d: timedelta) -> bytes:
    return _TIMEDELTA.pack(d.days, d.seconds, d.microseconds)


def _read_timedelta(data: bytes) -> timedelta:
    return timedelta(*_TIMEDELTA.unpack(data))


def _write_zone(zone: tzinfo | None) -> bytes:
    if zone is None:
        return b""
    if zone is timezone.utc:
        return b"u"
    if type(zone) is timezone:
        # What pickle uses; tzname() does not tell a given name from the default one.
        offset, *name = cast(Any, zone).__getinitargs__()
        written = _OFFSET.pack(offset // _MICROSECOND)
        return b"n" + written + name[0].encode("utf-8", "surrogatepass") if name else b"o" + written
    # A ZoneInfo read from a file may have any key, so the key must lead back to it.
    if type(zone) is ZoneInfo and zone.key and ZoneInfo(zone.key) is zone:
        return b"z" + zone.key.encode()
    raise UnstorableError(
        f"a time zone of type {type_name(type(zone))} cannot be stored: use datetime.timezone or "
        "zoneinfo.ZoneInfo(key)"
    )


def _read_zone(data: bytes) -> tzinfo | None:
    if not data:
        return None
    if data == b"u":
        return timezone.utc
    kind, rest = data[:1], data[1:]
    if kind == b"z":
        return ZoneInfo(rest.decode())
    offset = _OFFSET.unpack_from(rest)[0] * _MICROSECOND
    if kind == b"o" and len(rest) == _OFFSET.size:
        return timezone(offset)
    if kind == b"n":
        return timezone(offset, rest[_OFFSET.size :].decode("utf-8", "surrogatepass"))
    raise StaleFormat("zone")


_SCALARS: tuple[tuple[int, type, Writer, Reader], ...] = (
    (-2, int, _write_int, partial(int.from_bytes, byteorder="big", signed=True)),
    (-3, bytearray, bytes, bytearray),
    (-4, complex, _write_complex, _read_complex),
    (-5, Decimal, _write_decimal, _read_decimal),
    (-6, UUID, _write_uuid, _read_uuid),
    (-7, date, _write_date, _read_date),
    (-8, time, _write_time, _read_time),
    (-9, datetime, _write_datetime, _read_datetime),
    (-10, timedelta, _write_timedelta, _read_timedelta),
)
WRITERS = {kind: (code, write) for code, kind, write, _ in _SCALARS}
READERS = {code: read for code, _, _, read in _SCALARS}
