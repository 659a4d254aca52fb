"""Values come back equal in value and in exact type, or are refused; bytes never surprise."""

from __future__ import annotations

import array
import collections
import dataclasses
import enum
import functools
import io
import math
import struct
import subprocess
import sys
import textwrap
import types
from collections import namedtuple
from datetime import datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal, localcontext
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zoocache import codec, references
from zoocache.codec import StaleFormat, decode, decode_rows, encode, encode_rows, storable
from zoocache.exceptions import UnstorableError
from zoocache.wire import ext

LONDON = ZoneInfo("Europe/London")


class Color(enum.Enum):
    RED = "r"
    CRIMSON = "r"  # noqa: PIE796 - an alias
    BLUE = object()  # a value that could not be stored itself


class Level(enum.IntEnum):
    LOW = 1


class Kind(str, enum.Enum):
    BOOK = "book"


class Right(enum.Flag):
    READ = 1
    WRITE = 2
    RUN = 4


class Bits(enum.IntFlag):
    A = 1
    B = 2


class Outer:
    class Shade(enum.Enum):
        DARK = 1


@storable
@dataclasses.dataclass
class Point:
    x: object
    y: object = 0

    def __post_init__(self) -> None:
        self.calls = "this would be an attribute that is not a field"
        del self.calls

    @functools.cached_property
    def norm(self) -> float:
        return math.hypot(self.x, self.y)


@storable
@dataclasses.dataclass(frozen=True)
class Frozen:
    a: object
    b: int = dataclasses.field(init=False, default=5)
    c: dataclasses.InitVar[int] = 3


@storable
@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    a: object
    b: object = None


@dataclasses.dataclass
class Undeclared:
    a: int = 1


@dataclasses.dataclass
class Child(Point):
    pass


Pair = namedtuple("Pair", "left right")


def same(a: object, b: object) -> bool:
    """Tell whether two values are equal in value and exact type, all the way down.

    With a stack of its own: comparing nested lists with == overflows Python's.
    """
    todo = [(a, b)]
    while todo:
        a, b = todo.pop()
        if type(a) is not type(b):
            return False
        if isinstance(a, enum.Enum):
            if a is not b:
                return False
        elif isinstance(a, (list, tuple)):
            if len(a) != len(b):
                return False
            todo += zip(a, b, strict=True)
        elif isinstance(a, dict):
            if len(a) != len(b):
                return False
            todo += zip(a, b, strict=True)
            todo += zip(a.values(), b.values(), strict=True)
        elif isinstance(a, (set, frozenset)):
            rest = list(b)
            for item in a:
                found = [i for i, other in enumerate(rest) if same(item, other)]
                if not found:
                    return False
                rest.pop(found[0])
            if rest:
                return False
        elif dataclasses.is_dataclass(a):
            todo += [(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a)]
        elif not same_scalar(a, b):
            return False
    return True


def same_scalar(a: object, b: object) -> bool:
    if isinstance(a, float):
        return repr(a) == repr(b)
    if isinstance(a, complex):
        return repr((a.real, a.imag)) == repr((b.real, b.imag))
    if isinstance(a, Decimal):
        return a.as_tuple() == b.as_tuple()
    if isinstance(a, (datetime, time)):
        # repr: naive and aware never compare equal, and == ignores fold and the zone's kind.
        same_zone = type(a.tzinfo) is type(b.tzinfo) and repr(a.tzinfo) == repr(b.tzinfo)
        return a.replace(tzinfo=None) == b.replace(tzinfo=None) and a.fold == b.fold and same_zone
    if isinstance(a, UUID):
        return a == b and a.is_safe is b.is_safe
    return a == b


def test_the_comparer_tells_apart_what_equality_does_not() -> None:
    fold = datetime(2024, 1, 1, fold=1)
    utc = datetime(2024, 1, 1, tzinfo=timezone.utc)
    pairs = [
        (1, True),
        (1, 1.0),
        (0.0, -0.0),
        ([1], [True]),
        ({1: 1}, {True: 1}),
        ({1: 0, 2: 0}, {2: 0, 1: 0}),
        ({1}, {1.0}),
        ((1,), [1]),
        (Pair(1, 2), (1, 2)),
        (Decimal("1.0"), Decimal("1.00")),
        (fold, fold.replace(fold=0)),
        (utc, utc.replace(tzinfo=ZoneInfo("UTC"))),
        (utc, utc.replace(tzinfo=timezone(timedelta(0), "UTC"))),
        (b"a", bytearray(b"a")),
        (set(), frozenset()),
        (complex(0.0, -0.0), complex(0.0, 0.0)),
        (Level.LOW, 1),
    ]
    for a, b in pairs:
        assert not same(a, b)
        assert same(a, a)
    assert same(math.nan, math.nan)


offsets = st.timedeltas(min_value=timedelta(hours=-23), max_value=timedelta(hours=23))
zones = st.one_of(
    st.none(),
    st.just(timezone.utc),
    st.builds(timezone, offsets),
    st.builds(timezone, offsets, st.text(max_size=5)),
    st.sampled_from([LONDON, ZoneInfo("Asia/Kathmandu"), ZoneInfo("UTC")]),
)
folds = st.integers(0, 1)
texts = st.text(st.characters(exclude_categories=()), max_size=300) | st.text(max_size=8)
hashable_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    texts,
    st.binary(max_size=300),
    st.complex_numbers(allow_nan=False),
    st.decimals(allow_nan=False),
    st.builds(lambda d, f: d.replace(fold=f), st.datetimes(timezones=zones), folds),
    st.dates(),
    st.builds(lambda t, z, f: t.replace(tzinfo=z, fold=f), st.times(), zones, folds),
    st.timedeltas(),
    st.uuids(),
    st.builds(UUID, int=st.integers(0, 2**128 - 1), is_safe=st.sampled_from(SafeUUID)),
    st.sampled_from([*Color, *Level, *Kind, *Right, *Bits, Right.READ | Right.RUN, Right(0)]),
    st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=20)),
    st.builds(msgpack.Timestamp, st.integers(-(2**40), 2**40), st.integers(0, 10**9 - 1)),
)
scalars = st.one_of(
    hashable_scalars,
    st.floats(),
    st.complex_numbers(),
    st.builds(bytearray, st.binary(max_size=300)),
    st.sampled_from([Decimal("sNaN"), Decimal("-NaN12"), Decimal("1E+400"), Decimal("-0.000")]),
)
keys = st.recursive(
    hashable_scalars,
    lambda inner: st.one_of(
        st.tuples(inner), st.frozensets(inner, max_size=3), st.builds(Slotted, inner, inner)
    ),
    max_leaves=4,
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=5).map(tuple),
        st.dictionaries(keys, inner, max_size=4),
        st.sets(keys, max_size=4),
        st.frozensets(keys, max_size=4),
        st.builds(Point, inner, inner),
        st.builds(Frozen, inner),
        st.builds(Slotted, inner, inner),
    ),
    max_leaves=25,
)


@given(values)
@settings(max_examples=400, deadline=None)
@example([[1, 1.0, True], (bytearray(b"x"), [bytearray()]), b"x"])
@example({(1, frozenset([Slotted(1)])): {"a": [()]}})
@example(["\ud800", (bytearray(b"\xc4"),)])
def test_every_value_comes_back_equal_in_value_and_type(value: object) -> None:
    back = decode(encode(value))
    assert same(back, value), (value, back)


@given(st.lists(st.lists(values, max_size=4).map(tuple) | st.lists(scalars, max_size=4)))
@settings(max_examples=100, deadline=None)
@example([])
@example([(), ()])
@example([(1, 2), [3, 4]])
@example([(1,), (2, 3), ()])
@example([([1, 2], (3, bytearray(b"4")))])
def test_rows_come_back_as_tuples(rows: list) -> None:
    assert same(decode_rows(encode_rows(rows)), [tuple(row) for row in rows])


@pytest.mark.parametrize(
    "value",
    [
        2**63 - 1,
        2**63,
        2**64 - 1,
        2**64,
        -(2**63),
        -(2**63) - 1,
        -(2**64),
        10**6000,
        -(10**6000),
        datetime.max,
        datetime.min,
        datetime(2024, 10, 27, 1, 30, tzinfo=LONDON, fold=1),
        time(1, 2, 3, 4, tzinfo=timezone(timedelta(microseconds=-1), "odd")),
        timezone.utc.fromutc(datetime(2024, 1, 1, tzinfo=timezone.utc)),
        timedelta.max,
        timedelta.min,
        Decimal("NaN"),
        Outer.Shade.DARK,
        Color.CRIMSON,
        {None: 1, True: 2, 2.5: 3, (): 4, b"": 5, Color.RED: 6},
        Bits(3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_edges(value: object) -> None:
    assert same(decode(encode(value)), value)


def test_a_namedtuple_comes_back_as_a_tuple() -> None:
    assert same(decode(encode([Pair(1, Pair([], bytearray(b"x")))])), [(1, ([], bytearray(b"x")))])
    assert same(decode_rows(encode_rows([Pair(1, 2)])), [(1, 2)])


def test_a_decimal_does_not_depend_on_the_context() -> None:
    value = Decimal("1.234567890123456789E+50")
    with localcontext() as context:
        context.prec, context.capitals = 3, 0
        assert same(decode(encode(value)), value)


class FixedZone(tzinfo):
    def utcoffset(self, dt: datetime | None) -> timedelta:
        return timedelta(0)


class SafeText(str):
    __slots__ = ()


class Number(int):
    pass


class Moment(datetime):
    pass


def local_enum() -> enum.Enum:
    return enum.Enum("Local", "ONE").ONE


def local_dataclass() -> object:
    return storable(dataclasses.make_dataclass("Local", ["a"]))(1)


def with_extra_attribute() -> Point:
    point = Point(1, 2)
    point.colour = "red"
    return point


def with_unset_field() -> Point:
    point = Point(1, 2)
    del point.x
    return point


REFUSED = {
    "safe text": (SafeText("x"), "SafeText.*convert it to str"),
    "int subclass": (Number(5), "Number.*convert it to int"),
    "datetime subclass": (Moment(2024, 1, 1), "Moment.*convert it to datetime"),
    "ordered dict": (collections.OrderedDict(a=1), "OrderedDict.*convert it to dict"),
    "default dict": (collections.defaultdict(int), "defaultdict.*convert it to dict"),
    "memoryview": (memoryview(b"x"), r"memoryview.*bytes\(\)"),
    "sliced memoryview": (memoryview(b"xxxx")[::2], "convert it"),
    "memoryview key": ({memoryview(b"x"): 1}, "memoryview"),
    "memoryview in a set in a key": ({(frozenset([memoryview(b"x")]),): 1}, "cannot be stored"),
    "array": (array.array("i", [1]), "array.array"),
    "generator": ((x for x in ()), "generator.*convert it first.*zoocache.storable"),
    "object": (object(), "object cannot be stored"),
    "function": (len, "convert it first"),
    "class": (Point, "type cannot be stored"),
    "undeclared dataclass": (Undeclared(), "Undeclared.*declare the dataclass"),
    "child of a declared dataclass": (Child(1), "Child.*declare the dataclass"),
    "extra attribute": (with_extra_attribute(), "colour"),
    "unset field": (with_unset_field(), "unset field"),
    "local dataclass": (local_dataclass(), "Local.*top of a module"),
    "local enum": (local_enum(), "Local.*top of a module"),
    "own zone": (datetime(2024, 1, 1, tzinfo=FixedZone()), "FixedZone.*zoneinfo"),
    "own zone in a time": (time(1, tzinfo=FixedZone()), "FixedZone.*zoneinfo"),
    "uncached zone": (datetime(2024, 1, 1, tzinfo=ZoneInfo.no_cache("UTC")), "ZoneInfo"),
    "range": (range(3), "range"),
    "mapping proxy": (types.MappingProxyType({}), "mappingproxy"),
    "struct sequence": (sys.float_info, "convert it to tuple"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("wrap", ["bare", "list", "dict", "tuple", "dataclass", "row"])
def test_what_cannot_be_kept_is_refused_wherever_it_is(name: str, wrap: str) -> None:
    value, message = REFUSED[name]
    if wrap == "row":
        with pytest.raises(UnstorableError, match=message):
            encode_rows([(1, "a"), (2, value)])
        return
    wrapped = {
        "bare": value,
        "list": [1, [value]],
        "dict": {"a": {"b": value}},
        "tuple": ([(1, value)],),
        "dataclass": [Point(1, {"y": Point(value)})],
    }[wrap]
    with pytest.raises(UnstorableError, match=message):
        encode(wrapped)


def test_an_enum_member_that_its_name_does_not_lead_to_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "Color", enum.Enum("Color", "RED"))
    with pytest.raises(UnstorableError, match="Color"):
        encode(OLD_COLOR)


OLD_COLOR = Color.RED


def test_a_zone_read_from_a_file_is_refused_under_a_key_of_another() -> None:
    header = struct.pack(">4sc15x6I", b"TZif", b"1", 0, 0, 0, 0, 1, 4)
    file = io.BytesIO(header + struct.pack(">iBB4s", 32400, 0, 0, b"JST\0"))
    zone = ZoneInfo.from_file(file, key="Europe/London")
    with pytest.raises(UnstorableError, match="ZoneInfo"):
        encode(datetime(2024, 1, 1, tzinfo=zone))


def test_rows_must_be_tuples_or_lists() -> None:
    for row in ("ab", {"a": 1}, 5):
        with pytest.raises(UnstorableError, match="make it a tuple"):
            encode_rows([(1, 2), row])


@pytest.mark.parametrize("box", [lambda x: [x], lambda x: (x,), lambda x: {"k": x}, Point])
def test_whatever_depth_can_be_stored_can_be_read(box) -> None:
    refused = 0
    for depth in [*range(10, 500, 70), *range(505, 516), *range(1018, 1030), 5000]:
        value: object = 1
        for _ in range(depth):
            value = box(value)
        try:
            data = encode(value)
        except UnstorableError:
            refused += 1
            continue
        assert same(decode(data), value)
    assert refused
    with pytest.raises(UnstorableError, match="too deep"):
        encode(value)


def test_cycles_are_refused() -> None:
    cycle: list = [b"\xc4"]
    cycle.append({"again": (cycle,)})
    with pytest.raises(UnstorableError, match="contains itself"):
        encode(cycle)
    point = Point(1)
    point.x = point
    with pytest.raises(UnstorableError, match="contains itself"):
        encode_rows([(point,)])


def test_depth_with_a_bytearray_inside_is_bounded_too() -> None:
    """By the interpreter's limit: 1010 is within that of msgpack."""
    value: object = bytearray(b"x")
    for _ in range(1010):
        value = [value]
    with pytest.raises(UnstorableError, match="too deep"):
        encode(value)


def test_a_dataclass_is_rebuilt_without_running_its_code() -> None:
    point = Point(3, 4)
    assert point.norm == 5.0
    back = decode(encode(point))
    assert vars(back) == {"x": 3, "y": 4}
    assert back == point
    assert same(decode(encode(Frozen([1], c=9))), Frozen([1]))
    assert hash(decode(encode(Slotted(1)))) == hash(Slotted(1))


def test_storable_refuses_what_it_could_not_rebuild() -> None:
    class Base:
        __slots__ = ("hidden",)

    @dataclasses.dataclass
    class WithSlot(Base):
        a: int

    @dataclasses.dataclass
    class OfDict(dict):
        a: int

    class Plain:
        pass

    class Heir(Point):
        pass

    for cls, message in [
        (WithSlot, "hidden"),
        (OfDict, "cannot be rebuilt"),
        (Plain, "above @dataclass"),
        (Heir, "above @dataclass"),
        (Point(1), "above @dataclass"),
    ]:
        with pytest.raises(UnstorableError, match=message):
            storable(cls)


def test_a_dataclass_whose_fields_changed_is_a_miss(monkeypatch) -> None:
    data = encode(Point(1, 2))
    for fields in ([("x", object), ("z", object)], [("x", int), ("y", object)], ["y", "x"]):
        changed = dataclasses.make_dataclass("Point", fields)
        changed.__module__ = __name__
        monkeypatch.setattr(sys.modules[__name__], "Point", storable(changed))
        with pytest.raises(StaleFormat):
            decode(data)


def test_a_class_no_longer_declared_or_found_is_a_miss(monkeypatch) -> None:
    data, red = encode([Point(1, 2)]), encode(Color.RED)
    with monkeypatch.context() as patch:
        patch.delitem(references.declarations, Point)
        with pytest.raises(StaleFormat):
            decode(data)
    with monkeypatch.context() as patch:
        patch.delattr(sys.modules[__name__], "Point")
        patch.setattr(sys.modules[__name__], "Color", Level)
        for stale in (data, red):
            with pytest.raises(StaleFormat):
                decode(stale)
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, __name__)
        for stale in (data, red):
            with pytest.raises(StaleFormat):
                decode(stale)


def test_reading_imports_nothing(tmp_path) -> None:
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')\n")
    lazy = "def __getattr__(name): raise SystemExit('called')\n"
    (tmp_path / "lazy.py").write_text(lazy)
    reference = msgpack.packb(["trap", "Color", "RED"])
    unset = msgpack.packb(["lazy", "Color", "RED"])
    program = f"""
        import sys, msgpack, lazy
        from zoocache import codec, references
        from zoocache.wire import ext
        for payload in ({reference!r}, {unset!r}):
            for body in (
                msgpack.packb(ext(references.ENUM, payload)),
                msgpack.packb([ext(references.DATACLASS, payload)]),
            ):
                try:
                    codec.decode(bytes([codec._VERSION | codec._MARKED]) + body)
                except codec.StaleFormat:
                    pass
                else:
                    sys.exit("decoded")
        assert "trap" not in sys.modules
    """
    path = [str(tmp_path), *sys.path]
    program = f"import sys; sys.path[:] = {path!r}\n" + textwrap.dedent(program)
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def decodes_or_misses(data: bytes) -> None:
    for read in (decode, decode_rows):
        try:
            value = read(data)
        except StaleFormat:
            continue
        assert "zoocache.codec" not in {type(v).__module__ for v in flattened(value)}


def flattened(value: object) -> list:
    found, todo = [], [value]
    while todo:
        item = todo.pop()
        found.append(item)
        if isinstance(item, (list, tuple, set, frozenset)):
            todo += item
        elif isinstance(item, dict):
            todo += [*item, *item.values()]
    return found


heads = st.sampled_from([bytes([head]) for head in range(0x10, 0x14)])


@given(st.binary(max_size=200) | st.builds(bytes.__add__, heads, st.binary(max_size=200)))
@settings(max_examples=500, deadline=None)
@example(b"")
@example(b"\x11\x81\x91\xc7\x00\xec\x01")
@example(b"\x11\x91\x91\xd4\xec\x00")
@example(b"\x12\x91\xa1a")
@example(b"\x12\x92\x00\xa1a")
@example(b"\x12\x93\x03\x01\x02")
@example(b"\x12\x91\xce\xff\xff\xff\xff")
@example(b"\x12\x81\x01\x02")
def test_garbage_is_a_miss(data: bytes) -> None:
    decodes_or_misses(data)


@given(values, st.data())
@settings(max_examples=400, deadline=None)
def test_garbled_bytes_are_a_miss_or_a_value(value: object, data: st.DataObject) -> None:
    written = bytearray(data.draw(st.sampled_from([encode(value), encode_rows([(value, 1)])])))
    for _ in range(data.draw(st.integers(1, 3))):
        written[data.draw(st.integers(0, len(written) - 1))] = data.draw(st.integers(0, 255))
    decodes_or_misses(bytes(written[: data.draw(st.integers(0, len(written)))]))
    decodes_or_misses(bytes(written))


exts = st.builds(ext, st.integers(-25, 5).filter(lambda c: c != -1), st.binary(max_size=30))


@given(
    st.recursive(exts | st.integers(0, 300), lambda x: st.lists(x) | st.dictionaries(exts, x)),
    heads,
)
@settings(max_examples=400, deadline=None)
def test_garbled_extensions_are_a_miss_or_a_value(body: object, head: bytes) -> None:
    decodes_or_misses(head + msgpack.packb(body))


def test_another_version_and_stray_marks_are_misses() -> None:
    assert encode(None) == b"\x10\xc0"
    tuple_mark, members = codec._MARKS[tuple], [1, 2]
    for head, body in [
        (0x20, members),
        (0x0F, members),
        (0x12, members),
        (0x10, [tuple_mark, 1]),
        (0x11, [1, tuple_mark]),
        (0x11, {tuple_mark: 1}),
        (0x11, tuple_mark),
        (0x11, [codec._MARKS[set], [1]]),
        (0x10, ext(-99, b"")),
    ]:
        with pytest.raises(StaleFormat):
            decode(bytes([head]) + msgpack.packb(body))
    with pytest.raises(StaleFormat):
        decode(encode_rows([(1,)]))
    with pytest.raises(StaleFormat):
        decode_rows(encode([1, 2]))
    with pytest.raises(StaleFormat):
        decode(encode(1) + b"\x00")


def test_a_memoryview_of_the_bytes_is_read_as_well() -> None:
    assert decode(memoryview(encode((1, "a")))) == (1, "a")
