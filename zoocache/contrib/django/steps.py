"""How recipes grow: by which method calls, and what is remembered of each.

The first call of its kind on a shape is Django's, on the queryset that is built
for it. What came of that is a shape of its own, and calls like it only take the
values from their arguments.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet

from zoocache.contrib.django import lookups, recipes
from zoocache.contrib.django.recipes import Call, Recipe, Shape
from zoocache.shm import _core

_new: Callable[[Any], Any] = object.__new__
_UNKNOWN: Any = object()

Grow = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
"""What a method does, from the queryset and the arguments of the call."""


class Method:
    """A method that recipes know: how its arguments are taken and given again."""

    def __init__(self, method: Callable[..., Any], take: Callable[[Any, Any], Call | None]) -> None:
        self.method = method
        self.take = take
        self.of_conditions = take is recipes.take_conditions

    def is_known(self, query: Any, call: Call) -> bool:
        return not self.of_conditions or lookups.are_known(query, call[0])

    def replay(self, call: Call, args: Any, kwargs: Any) -> Callable[[Any, Any], Any]:
        method, structure = self.method, call[0]
        if self.take in (recipes.take_names, recipes.take_some_names):
            return lambda queryset, values: method(queryset, *args, **kwargs)

        def replay(queryset: Any, values: tuple[Any, ...]) -> Any:
            if self.of_conditions:
                given, named = recipes.rebuild(structure, values)
            else:
                given, named = recipes.rebuild_aggregates(structure)
            return method(queryset, *given, **named)

        return replay


def growing(name: str, method: Callable[..., Any], take: Any, learn: Callable[..., Any]) -> Grow:
    """What a method does that goes into the recipe, or is Django's; `learn` makes the first call
    of its kind on a shape."""
    known = Method(method, take)

    def grow(queryset: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        recipe: Recipe | None = queryset._recipe
        if recipe is None:
            return method(queryset, *args, **kwargs)
        shape, values = recipe
        call = take(args, kwargs)
        if call is None:
            return method(queryset, *args, **kwargs)
        key = name, call[0]
        child = shape.children.get(key, _UNKNOWN)
        if child is _UNKNOWN:
            return learn(queryset, recipe, key, call, known, args, kwargs)
        if child is None:
            return method(queryset, *args, **kwargs)
        if known.of_conditions and len(kwargs) == 1 and not args:
            ((lookup, value),) = kwargs.items()
            if type(value) in recipes.SIMPLE:  # the type is all that counts of it
                shape.quick[name, lookup, type(value)] = child, child.attributes
        return taken(queryset, child, values + call[1])

    # Of calls that are among the quick ones, in C.
    return _core.Step(name, grow).take if known.of_conditions else grow


def taken(queryset: Any, shape: Shape, values: tuple[Any, ...]) -> Any:
    """A queryset of that recipe, otherwise like the one given."""
    new = _new(type(queryset))
    own, its = new.__dict__, queryset.__dict__
    own.update(shape.attributes)
    own["_recipe"] = shape, values
    if "_db" in its:
        own["_db"] = its["_db"]
    if "_hints" in its:
        own["_hints"] = its["_hints"]
    return new


def method_of(grow: Grow, method: Callable[..., Any]) -> Any:
    """The method of a queryset class."""

    @functools.wraps(method)
    def recorded(self: Any, *args: Any, **kwargs: Any) -> Any:
        return grow(self, args, kwargs)

    return recorded


# What Django's get(), first(), latest() and the like make of a queryset before they evaluate it, as
# methods of it: each release of Django does it in its own way, and so is asked.


class _Evaluated(Exception):
    def __init__(self, queryset: Any) -> None:
        self.queryset = queryset


def evaluated(method: Callable[..., Any], queryset: Any, *args: Any, **kwargs: Any) -> Any:
    """The queryset that a method of Django's evaluates."""
    kind: Any = type(queryset)
    probe = queryset._chain()
    probe.__class__ = _probing(kind)
    try:
        method(probe, *args, **kwargs)
    except _Evaluated as stopped:
        found = stopped.queryset
        found.__class__ = kind
        return found
    raise RuntimeError(f"{method.__qualname__}() of a {kind.__qualname__} evaluates no queryset")


@functools.cache
def _probing(kind: type[Any]) -> type[Any]:
    """The class with querysets that are not evaluated."""

    def _fetch_all(self: Any) -> None:
        raise _Evaluated(self)

    return type(kind.__name__, (kind,), {"_fetch_all": _fetch_all})


def _few(queryset: Any, *args: Any, **kwargs: Any) -> Any:
    """As `get` limits it: enough rows to tell that there is more than one."""
    return evaluated(QuerySet.get, queryset, *args, **kwargs)


def _one(queryset: Any) -> Any:
    return evaluated(QuerySet.first, queryset)


def _last(queryset: Any) -> Any:
    return evaluated(QuerySet.last, queryset)


def _first_by(queryset: Any, *fields: str) -> Any:
    return evaluated(QuerySet.earliest, queryset, *fields)


def _last_by(queryset: Any, *fields: str) -> Any:
    return evaluated(QuerySet.latest, queryset, *fields)


def _keyed(queryset: Any, field_name: str) -> Any:
    return evaluated(QuerySet.in_bulk, queryset, field_name=field_name)


def _bulk(queryset: Any, **condition: tuple[Any, ...]) -> Any:
    """As `in_bulk` finds some keys, which are given as to `filter`: `pk__in=keys`. None if it
    evaluates more than one queryset for them."""
    ((lookup, keys),) = condition.items()
    found = evaluated(QuerySet.in_bulk, queryset, keys, field_name=lookup.removesuffix("__in"))
    asked = getattr(found.query.where.children[-1], "rhs", ())
    return found if len(asked) == len(keys) else None


def _limited(queryset: Any, start: int | None, stop: int | None) -> Any:
    return QuerySet.__getitem__(queryset, slice(start, stop))


def _aggregated(queryset: Any, *args: Any, **kwargs: Any) -> Any:
    """With what `aggregate` is called with."""
    clone = queryset._chain()
    clone._aggregates = args, kwargs
    return clone


OWN: dict[str, Callable[..., Any]] = {
    method.__name__: method
    for method in (
        _aggregated, _bulk, _few, _first_by, _keyed, _last, _last_by, _limited, _one,
    )
}  # fmt: skip
