"""What a query returns, made straight from stored rows: in value and type what Django makes.

Django makes an instance through `from_db` and `__init__`. Where a model leaves
both alone, all that they come to is a `__dict__` and a `_state`; these are
filled here by a function that is written for the query's shape. A model that
takes part in its own loading gets no such function, and Django makes its
instances. plans.py compares the first rows of each shape with Django's own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import count
from typing import Any, NamedTuple

from django.core.signals import setting_changed
from django.db.models import Model
from django.db.models.base import ModelState
from django.db.models.expressions import Col
from django.db.models.fields.files import FileDescriptor
from django.db.models.fields.mixins import FieldCacheMixin
from django.db.models.fields.related_descriptors import ForeignKeyDeferredAttribute
from django.db.models.query import (
    FlatValuesListIterable,
    ModelIterable,
    NamedValuesListIterable,
    ValuesIterable,
    ValuesListIterable,
)
from django.db.models.query_utils import DeferredAttribute
from django.db.models.signals import post_init, pre_init
from django.db.models.utils import create_namedtuple_class
from django.dispatch import receiver

from zoocache.shm import _core

Row = tuple[Any, ...]
Converters = list[tuple[int, Callable[..., Any], Any]]
"""Columns, what converts their values, and their expressions, in the order to do it."""
Build = Callable[[tuple[Row, ...], str], list[Any]]

_numbers = count()
_DESCRIPTORS = (DeferredAttribute, ForeignKeyDeferredAttribute, FileDescriptor)


class Filler(NamedTuple):
    """Makes what a queryset of one shape returns."""

    build: Build
    """What the queryset returns for rows of `shared`, and the alias that they came from."""
    models: tuple[type[Model], ...]
    """The classes of the instances that it makes."""
    expressions: list[Any]
    """The columns."""
    own: Converters
    """By column, how fields convert values anew for each caller."""
    number: int
    """Tells it from all others of the process."""

    def usable(self) -> bool:
        """Does nobody want to be told of its instances?"""
        signals = (pre_init, post_init)
        return not any(s.has_listeners(model) for s in signals for model in self.models)

    def shared(self, rows: Sequence[Row], state: Any) -> tuple[Row, ...]:
        """Rows as the backend gives them to fields: the same for all callers.

        `state` is that of the connection (connection.py), which remembers how.
        """
        converters = self._of_backend(state)
        return _converted(rows, converters, state.connection) if converters else tuple(rows)

    def _of_backend(self, state: Any) -> Converters:
        """By column, how values are converted before the fields see them, on one connection."""
        connection = state.connection
        known: tuple[Any, int, Converters] | None = state.converters.get(self.number)
        # Nothing else that Django's own backends look at changes while one is connected.
        if known is not None and known[0] is connection.ops and known[1] == use_tz_changes:
            return known[2]
        if len(state.converters) >= MOST_KNOWN:  # most of them of shapes that are forgotten
            state.converters.clear()
        here = connection.ops, use_tz_changes
        converters = _converters(self.expressions, connection, own=False)
        state.converters[self.number] = *here, converters
        return converters

    def result(self, rows: tuple[Row, ...], connection: Any, alias: str) -> list[Any]:
        """What the queryset returns for rows of `shared`."""
        if self.own:
            rows = _converted(rows, self.own, connection)
        return self.build(rows, alias)


MOST_KNOWN = 5_000
"""Of so many shapes a connection knows the converters."""

use_tz_changes = 0
"""How often the USE_TZ setting was changed: some backends convert what it says."""


@receiver(setting_changed, dispatch_uid="zoocache.filling")
def _note_use_tz(*, setting: str, **kwargs: Any) -> None:
    global use_tz_changes
    use_tz_changes += setting == "USE_TZ"


def _converters(expressions: Iterable[Any], connection: Any, *, own: bool) -> Converters:
    """The converters of the fields themselves, or those that come before."""
    found = []
    for index, expression in enumerate(expressions):
        of_field = expression.output_field.get_db_converters(connection)
        of_expression = expression.get_db_converters(connection)
        n = 0 if type(expression) is Col else len(of_expression) - len(of_field)
        first = [*connection.ops.get_db_converters(expression), *of_expression[:n]]
        wanted = of_expression[n:] if own else first
        found += [(index, convert, expression) for convert in wanted]
    return found


def _is_steady(expression: Any) -> bool:
    """Does the expression have the same converters each time? What is not Django's may not."""
    return all(
        type(one).get_db_converters.__module__.startswith("django.")
        for one in (expression, expression.output_field)
    )


def _converted(rows: Sequence[Row], converters: Converters, connection: Any) -> tuple[Row, ...]:
    if len(rows) == 1:
        values = list(rows[0])
        for index, convert, expression in converters:
            values[index] = convert(values[index], expression, connection)
        return (tuple(values),)
    columns: list[Iterable[Any]] = [*zip(*rows, strict=True)]
    for index, convert, expression in converters if rows else ():
        columns[index] = [convert(value, expression, connection) for value in columns[index]]
    return tuple(zip(*columns, strict=True))


def filler_of(compiler: Any, queryset: Any) -> Filler | None:
    """The filler for a compiled query; None where Django must make the result."""
    expressions = [column[0] for column in compiler.select[: compiler.col_count]]
    if not _are_known(expressions):
        return None
    own = _converters(expressions, compiler.connection, own=True)
    kind = queryset._iterable_class
    if kind is ModelIterable:
        writer = _Writer(compiler, queryset)
        if not writer.instances():
            return None
        return Filler(writer.function(), tuple(writer.models), expressions, own, next(_numbers))
    maker = _VALUES.get(kind)
    build = None if maker is None else maker(queryset)
    return None if build is None else Filler(build, (), expressions, own, next(_numbers))


def filler_of_aggregates(compiler: Any, queryset: Any) -> Filler | None:
    """The same for what `aggregate` returns, in a list."""
    columns = compiler.query.annotation_select
    names, expressions = tuple(columns), list(columns.values())
    if not _are_known(expressions):
        return None

    def build(rows: tuple[Row, ...], alias: str) -> list[Any]:
        return [dict(zip(names, row, strict=True)) for row in rows]

    own = _converters(expressions, compiler.connection, own=True)
    return Filler(build, (), expressions, own, next(_numbers))


def _are_known(expressions: Iterable[Any]) -> bool:
    """Is each of them one column, converted in the same way each time?"""
    return all(_is_one_column(one) and _is_steady(one) for one in expressions)


def _is_one_column(expression: Any) -> bool:
    return bool(expression) and type(expression).__name__ != "ColPairs"


def _dicts(queryset: Any) -> Build:
    names = _names(queryset, named=False)

    def build(rows: tuple[Row, ...], alias: str) -> list[Any]:
        return [dict(zip(names, row, strict=False)) for row in rows]

    return build


def _tuples(queryset: Any) -> Build | None:
    if not _in_order(queryset):
        return None

    def build(rows: tuple[Row, ...], alias: str) -> list[Any]:
        return list(rows)

    return build


def _flat(queryset: Any) -> Build:
    def build(rows: tuple[Row, ...], alias: str) -> list[Any]:
        return [row[0] for row in rows]

    return build


def _named(queryset: Any) -> Build | None:
    if not _in_order(queryset):
        return None
    kind = create_namedtuple_class(*_names(queryset, named=True))

    def build(rows: tuple[Row, ...], alias: str) -> list[Any]:
        return [tuple.__new__(kind, row) for row in rows]

    return build


def _in_order(queryset: Any) -> bool:
    """Are the columns in the order that was asked for? Before Django 5.2, annotations come last."""
    if not queryset._fields or getattr(queryset.query, "selected", None):
        return True
    names = _names(queryset, named=False)
    return names[: len(queryset._fields)] == list(queryset._fields)


def _names(queryset: Any, *, named: bool) -> list[str]:
    query = queryset.query
    if named and queryset._fields:
        return list(queryset._fields)
    if not named and getattr(query, "selected", None):
        return list(query.selected)
    return [*query.extra_select, *query.values_select, *query.annotation_select]


_VALUES: dict[Any, Callable[[Any], Build | None]] = {
    ValuesIterable: _dicts,
    ValuesListIterable: _tuples,
    FlatValuesListIterable: _flat,
    NamedValuesListIterable: _named,
}


@cache
def is_plain(model: type[Model]) -> bool:
    """Is an instance nothing but what is in its `__dict__`?"""
    return (
        getattr(model.from_db, "__func__", None) is Model.from_db.__func__  # type: ignore[attr-defined]
        and model.__init__ is Model.__init__
        and type(model).__call__ is type.__call__
        # Model's own calls the next one, of a class that stands behind it.
        and not any(
            "__init__" in vars(c) for c in model.__mro__[model.__mro__.index(Model) + 1 : -1]
        )
        and model.__new__ is object.__new__
        and model.__setattr__ is object.__setattr__
        and all(
            type(inspect.getattr_static(model, field.attname, None)) in _DESCRIPTORS
            for field in model._meta.concrete_fields
        )
    )


class _Writer:
    """Writes the function that makes the instances of one shape of query."""

    def __init__(self, compiler: Any, queryset: Any) -> None:
        self.compiler = compiler
        self.names: dict[str, Any] = {"new": object.__new__, "State": ModelState}
        self.lines: list[str] = []
        self.models: list[type[Model]] = []
        self.columns: dict[str, int] = {}  # by name, of the instances themselves
        mode = getattr(queryset, "_fetch_mode", None)  # from Django 6.1 on
        self.mode = mode
        self.tracks_peers = bool(getattr(mode, "track_peers", False))

    def instances(self) -> bool:
        """Writes the lines; False if these instances cannot be written so."""
        info = self.compiler.klass_info
        if self.tracks_peers or not self._instance(info, "", 2):
            return False
        model = info["model"]
        for name, index in (self.compiler.annotation_col_map or {}).items():
            if hasattr(model, name):
                return False  # Django sets it, and the class may have its own way
            self.columns[name] = index
            self.lines.append(f"  d[{name!r}] = v{index}")
        return True

    def function(self) -> Build:
        if len(self.models) == 1:
            return self._filling()
        columns = "".join(f"v{index}, " for index in range(self.compiler.col_count))
        code = [
            "def build(rows, alias):",
            " out = []",
            " append = out.append",
            f" for {columns}in rows:",
            *self.lines,
            "  append(o)",
            " return out",
        ]
        exec("\n".join(code), self.names)
        build: Build = self.names["build"]
        return build

    def _filling(self) -> Build:
        """The same in C, of instances without others: in two thirds of the time."""
        state = {"adding": False, "db": None}
        if self.mode is not None:
            state["fetch_mode"] = self.mode
        (model,), names, columns = self.models, tuple(self.columns), tuple(self.columns.values())
        filling = _core.Filling(model, ModelState, state, self.compiler.col_count, names, columns)
        return filling.build  # type: ignore[no-any-return]

    def _name(self, thing: Any, prefix: str) -> str:
        name = f"{prefix}{len(self.names)}"
        self.names[name] = thing
        return name

    def _instance(self, info: Any, path: str, depth: int) -> bool:
        """An instance `o<path>` with its dict `d<path>` and its state `s<path>`."""
        model, indexes = info["model"], list(info["select_fields"])
        if not is_plain(model) or info.get("from_parent"):
            return False
        loaded = {self.compiler.select[index][0].target.attname: index for index in indexes}
        self.models.append(model)
        pad = " " * depth
        self.lines += [
            f"{pad}o{path} = new({self._name(model, 'M')})",
            f"{pad}s{path} = new(State)",
            f"{pad}s{path}.adding = False",
            f"{pad}s{path}.db = alias",
        ]
        if self.mode is not None:
            self.lines.append(f"{pad}s{path}.fetch_mode = {self._name(self.mode, 'F')}")
        self.lines += [f"{pad}d{path} = o{path}.__dict__", f"{pad}d{path}['_state'] = s{path}"]
        for field in model._meta.concrete_fields:
            if field.attname in loaded:
                if not path:
                    self.columns[field.attname] = loaded[field.attname]
                self.lines.append(f"{pad}d{path}[{field.attname!r}] = v{loaded[field.attname]}")
        related = info.get("related_klass_infos", ())
        return all(self._related(one, path, f"{path}_{n}", depth) for n, one in enumerate(related))

    def _related(self, info: Any, parent: str, path: str, depth: int) -> bool:
        pad = " " * depth
        pk = info["model"]._meta.pk
        keys = [
            index
            for index in info["select_fields"]
            if self.compiler.select[index][0].target.attname == getattr(pk, "attname", None)
        ]
        if len(keys) != 1:
            return False
        self.lines += [f"{pad}if v{keys[0]} is None:", f"{pad} o{path} = None", f"{pad}else:"]
        if not self._instance(info, path, depth + 1):
            return False
        self._set(info["local_setter"], f"s{parent}", f"o{parent}", f"o{path}", depth)
        remote = info["remote_setter"]
        if "<lambda>" not in getattr(remote, "__qualname__", ""):  # Django's, which does nothing
            self.lines.append(f"{pad}if o{path} is not None:")
            self._set(remote, f"s{path}", f"o{path}", f"o{parent}", depth + 1)
        return True

    def _set(self, setter: Any, state: str, of: str, to: str, depth: int) -> None:
        pad = " " * depth
        if getattr(setter, "__func__", None) is FieldCacheMixin.set_cached_value:
            field = setter.__self__
            name = getattr(field, "cache_name", None) or field.get_cache_name()
            self.lines.append(f"{pad}{state}.fields_cache[{name!r}] = {to}")
        else:
            self.lines.append(f"{pad}{self._name(setter, 'S')}({of}, {to})")


def same(ours: list[Any], djangos: list[Any]) -> bool:
    """Are two results the same, down to the instances' insides?"""
    return len(ours) == len(djangos) and all(map(_same, ours, djangos))


def _same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if not isinstance(one, Model):
        return bool(one == other) and repr(one) == repr(other)
    return _same_insides(one, other, set())


def _same_insides(one: Any, other: Any, seen: set[int]) -> bool:
    if id(one) in seen:
        return True
    seen.add(id(one))
    mine, its = dict(one.__dict__), dict(other.__dict__)
    state, other_state = dict(vars(mine.pop("_state"))), dict(vars(its.pop("_state")))
    # Django may leave an empty one.
    cached, other_cached = state.pop("fields_cache", {}), other_state.pop("fields_cache", {})
    return (
        list(mine) == list(its)
        and state == other_state
        and all(type(mine[key]) is type(its[key]) for key in mine)
        and repr(list(mine.values())) == repr(list(its.values()))
        and list(cached) == list(other_cached)
        and all(_same_related(cached[key], other_cached[key], seen) for key in cached)
    )


def _same_related(one: Any, other: Any, seen: set[int]) -> bool:
    if type(one) is not type(other):
        return False
    return one is None or _same_insides(one, other, seen)
