"""Querysets that remember how they were made, and are built only when they must be.

`Product.cached.filter(active=True)` costs more to build and to compile than its
rows cost to find. So a queryset of `Model.cached` is a *recipe*: a shape, which
is the methods that were called with all that decides on the SQL's text (names of
lookups and fields, the arguments' types, limits), and the plain values that go
into its parameters. Django's own query is made when anybody asks for it.

The first time that a process meets a shape, Django builds it at once, so that
what is wrong with it is said where it always was; a shape is known only once
that went well. Arguments are taken by a whitelist of exact types, each for the
fields that take all its values: with these nothing can go wrong for one value
and not for another. Everything else (expressions, subqueries, lazy objects,
other lookups) is Django's from that call on.

Values are copied when the method is called: what happens to a list or a Q
afterwards does not count, as in Django.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import models
from django.db.models import Q, aggregates

MOST_SHAPES = 2_000
"""Above so many, all are forgotten: pages and lists of many lengths are shapes, too. One takes
some 10 KiB with its plan."""


class Shape:
    """What a chain of calls comes to, but for the values in it."""

    __slots__ = (
        "attributes",
        "call",
        "children",
        "has_graph",
        "has_prefetches",
        "mark",
        "ordered",
        "plans",
        "quick",
        "replay",
        "source",
        "takes",
    )

    def __init__(
        self,
        source: Shape | None,
        call: Any,
        replay: Callable[[Any, tuple[Any, ...]], Any],
        takes: int,
        queryset: Any,
    ) -> None:
        self.source = source
        self.call = call
        """The method's name, and what of its arguments is in the shape."""
        self.replay = replay
        """Makes the queryset from the source's and the values of this call."""
        self.takes = takes
        """How many values that are."""
        self.mark = queryset.query.zoocache
        self.ordered = queryset.ordered
        self.has_prefetches = bool(queryset._prefetch_related_lookups)
        self.has_graph = True
        """May what is prefetched be kept as a whole?"""
        kind = type(queryset)
        self.attributes = {
            name: value
            for name, value in vars(queryset).items()
            if name not in _OF_THE_ONE and value is not getattr(kind, name, kind)
        }
        self.children: dict[Any, Shape | None] = {}
        """By what is called; None: Django's business."""
        self.quick: dict[tuple[str, str, type], tuple[Shape, dict[str, Any]]] = {}
        """Some of them with their attributes, by method, lookup and type of a call's only argument:
        most calls are such (csrc/python/zoo_step.c)."""
        self.plans: dict[str, dict[str, Any]] = {}
        """By the name of a question, and by alias: see plans.py."""

    def plans_of(self, question: str) -> dict[str, Any]:
        return self.plans.get(question) or self.plans.setdefault(question, {})

    def told(self) -> list[Any]:
        """All its calls, in a form that names it in every process."""
        return [_told(shape.call) for shape in self.steps()]

    def steps(self) -> list[Shape]:
        """The shapes that it grew from, the first one first, and itself."""
        found, shape = [self], self.source
        while shape is not None:
            found.append(shape)
            shape = shape.source
        return found[::-1]

    def __deepcopy__(self, memo: Any) -> Shape:
        return self


roots: dict[Any, Shape] = {}
"""Those of whole models, by what starts with them. Another dict when all shapes are forgotten."""

_shapes = 0


def note_shape() -> None:
    """There is one more; when they are too many, all are forgotten."""
    global _shapes, roots
    _shapes += 1
    if _shapes > MOST_SHAPES:
        _shapes = 0
        roots = {}


def _told(part: Any) -> Any:
    if isinstance(part, type):
        return ["type", part.__module__, part.__qualname__]
    return [*map(_told, part)] if type(part) is tuple else part


# What a queryset has by itself, and not by its shape.
_OF_THE_ONE = frozenset(
    [
        "_db",
        "_defer_next_filter",
        "_for_write",
        "_hints",
        "_known_related_objects",
        "_query",
        "_recipe",
        "_sticky_filter",
    ]
)

Recipe = tuple[Shape, tuple[Any, ...]]
"""A shape and the values of all calls in it."""


def key_of(values: tuple[Any, ...]) -> bytes:
    """Tells the values of a recipe from all others of its shape."""
    try:
        # Version 2: stable, and it tells 1 from True from 1.0, and 0.0 from -0.0.
        return marshal.dumps(values, 2)
    except ValueError:
        return marshal.dumps(tuple(map(_plain, values)), 2)


def build(recipe: Recipe, queryset: Any) -> Any:
    """Makes all calls of a recipe again, on an empty queryset."""
    whole, values = recipe
    at = 0
    for shape in whole.steps():
        queryset = shape.replay(queryset, values[at : at + shape.takes])
        at += shape.takes
    return queryset


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind is tuple:
        return tuple(map(_plain, value))
    return value if kind in _MARSHALLED else _PLAIN[kind](value)


SIMPLE = frozenset([type(None), int, str, bytes])
_MARSHALLED = SIMPLE | {bool, float}
# Their types are in the shape.
_PLAIN: dict[type, Callable[[Any], Any]] = {
    Decimal: str,
    UUID: lambda value: value.bytes,
    date: date.isoformat,
    datetime: lambda value: (value.isoformat(), value.fold),
    timedelta: lambda value: (value.days, value.seconds, value.microseconds),
}


Call = tuple[Any, tuple[Any, ...]]
"""A method's arguments, taken apart: what goes into the shape, and the values."""


def take_names(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    """Arguments that are names or switches: they are in the SQL's text, and so in the shape."""
    for value in (*args, *kwargs.values()):
        if value is not None and type(value) not in (str, bool, int, float):
            return None
    if not kwargs and all(type(value) is str for value in args):
        return args, ()
    return (_typed(args), *((name, *_typed((v,))) for name, v in kwargs.items())), ()


def take_some_names(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    """The same, where there is a name."""
    return take_names(args, kwargs) if args else None


def _typed(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple((type(value), value) for value in values)


def take_conditions(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    """Arguments of filter(): Q objects, and lookups with their values."""
    if not args and len(kwargs) == 1:
        ((name, value),) = kwargs.items()
        if type(value) in SIMPLE:  # most calls are such
            return ((name, type(value)),), (value,)
    structure: list[Any] = []
    values: list[Any] = []
    for arg in args:
        taken = _take_q(arg, values)
        if taken is None:
            return None
        structure.append(taken)
    for name, value in kwargs.items():
        kind = _take_value(value, values)
        if kind is None:
            return None
        structure.append((name, kind))
    return tuple(structure), tuple(values)


def _take_q(q: Any, values: list[Any]) -> Any:
    if type(q) is not Q:
        return None
    parts: list[Any] = []
    for child in q.children:
        if type(child) is tuple and len(child) == 2 and type(child[0]) is str:
            kind = _take_value(child[1], values)
            taken = None if kind is None else (child[0], kind)
        else:
            taken = _take_q(child, values)
        if taken is None:
            return None
        parts.append(taken)
    return (Q, q.connector, q.negated, tuple(parts))


_SCALARS = _MARSHALLED | _PLAIN.keys()


def _take_value(value: Any, values: list[Any]) -> Any:
    """The kind of a value, for the shape; None if it is not a plain one."""
    kind = type(value)
    if kind is bool:  # IS NULL or IS NOT NULL, active or NOT active: it decides on the SQL
        values.append(value)
        return value
    if kind in _SCALARS:
        if kind in _CONDITIONS and not _CONDITIONS[kind](value):
            return None
        values.append(value)
        return kind
    if kind is list or kind is tuple:
        kinds = {*map(type, value)}
        if len(kinds) != 1 or not kinds <= _SCALARS or len(value) > MOST_IN_A_LIST:
            return None
        (of,) = kinds
        if of in _CONDITIONS and not all(map(_CONDITIONS[of], value)):
            return None
        values.append(tuple(value))
        # Equal values are one parameter of an IN.
        return (kind, of, len(value), len(set(value)))
    if isinstance(value, models.Model):
        # The type of the key is looked at when the shape is learnt.
        pk = value.__dict__.get(getattr(value._meta.pk, "attname", ""))
        if type(pk) not in (int, str, UUID):
            return None
        values.append(pk)
        return (kind, type(pk))
    return None


MOST_IN_A_LIST = 200


def _is_of_the_zone(value: datetime) -> bool:
    """Django warns of others, each time."""
    if settings.USE_TZ:
        return type(value.tzinfo) in (timezone, ZoneInfo) and value.utcoffset() is not None
    return value.tzinfo is None


_CONDITIONS: dict[type, Callable[[Any], bool]] = {
    float: lambda value: value == value and abs(value) != float("inf"),
    Decimal: lambda value: value.is_finite(),
    datetime: _is_of_the_zone,
}


def rebuild(structure: Any, values: tuple[Any, ...]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments that `take_conditions` took apart."""
    rest = iter(values)
    args, kwargs = [], {}
    for part in structure:
        if part[0] is Q:
            args.append(_rebuild_q(part, rest))
        else:
            kwargs[part[0]] = next(rest)
    return args, kwargs


def _rebuild_q(part: Any, rest: Any) -> Q:
    _, connector, negated, parts = part
    q = Q(_connector=connector, _negated=negated)
    q.children = [
        _rebuild_q(child, rest) if child[0] is Q else (child[0], next(rest)) for child in parts
    ]
    return q


_AGGREGATES = (
    aggregates.Avg,
    aggregates.Count,
    aggregates.Max,
    aggregates.Min,
    aggregates.Sum,
)


def take_aggregates(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    """Arguments of annotate(): Django's common aggregates of named columns."""
    structure = []
    for name, value in [*((None, arg) for arg in args), *kwargs.items()]:
        if type(value) not in _AGGREGATES:
            return None
        given, options = value._constructor_args  # by which Django tells expressions apart, too
        taken = take_names(given, options)
        if taken is None:
            return None
        # Numbers are parameters: 1 is not True, 0.0 is not -0.0.
        shown = tuple(map(repr, (*given, *options.values())))
        structure.append((name, type(value), given, tuple(options.items()), shown))
    return tuple(structure), ()


def rebuild_aggregates(structure: Any) -> tuple[list[Any], dict[str, Any]]:
    args, kwargs = [], {}
    for name, kind, given, options, _ in structure:
        value = kind(*given, **dict(options))
        if name is None:
            args.append(value)
        else:
            kwargs[name] = value
    return args, kwargs
