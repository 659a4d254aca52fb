"""Results with prefetched relations, kept whole in this process and made again for each caller.

`prefetch_related` costs a query for each relation, and each builds, compiles and
matches anew, though all its rows are cached. So what Django made of a queryset
whose every SELECT was a hit is kept as a graph: its instances by their values,
and who refers to whom. The graph is made again with new instances for each
caller. It depends on all that its SELECTs depend on, since before the first.

The querysets that prefetching leaves in instances are made without a query;
they become Django's own when anything but their rows is asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

from django.core.exceptions import FieldError
from django.db.models import Model
from django.db.models.base import ModelState
from django.db.models.fields.related_descriptors import (
    ForwardManyToOneDescriptor,
    ReverseManyToOneDescriptor,
    ReverseOneToOneDescriptor,
)
from django.db.models.sql import Query

from zoocache import local
from zoocache.contrib.django.filling import is_plain

MOST_NODES = 10_000

_PREFETCHED = "_prefetched_objects_cache"
_STATE = {"adding", "db", "fetch_mode"}
_new = object.__new__


class Unlike(Exception):
    """There is something in the result that a graph does not know."""


class Node(NamedTuple):
    """An instance. Others are named by their places in the graph."""

    model: type[Model]
    values: tuple[tuple[str, Any], ...]
    state: tuple[tuple[str, Any], ...]
    related: tuple[tuple[str, int | None], ...]
    """What is in its `_state.fields_cache`."""
    prefetched: tuple[tuple[str, str, Any, tuple[int, ...]], ...]
    """The name in the cache, the attribute, the class of the queryset, its rows."""


class Graph(NamedTuple):
    nodes: tuple[Node, ...]
    roots: tuple[int, ...]


# What prefetching goes through, of managers and of querysets.
_MANAGERS = ("all", "db_manager", "get_queryset", "using")
_QUERYSETS = (
    "__init__",
    "_add_hints",
    "_chain",
    "_clone",
    "_fetch_all",
    "_filter_or_exclude",
    "_next_is_sticky",
    "all",
    "annotate",
    "extra",
    "filter",
    "order_by",
    "using",
)


def is_steady(model: Any, lookups: Iterable[str]) -> bool:
    """Does prefetching the lookups come to the same SELECTs each time?

    It asks the managers of what is related, and a user's own may say another thing each time:
    the rows of the tenant of the day.
    """
    return all(_is_steady_path(model, lookup.split("__")) for lookup in lookups)


def _is_steady_path(model: Any, parts: list[str]) -> bool:
    for part in parts:
        manager = _manager_of(getattr(model, part, None))
        if manager is None:
            return False
        model, queryset = manager.model, manager._queryset_class
        if not (_is_known(type(manager), _MANAGERS) and _is_known(queryset, _QUERYSETS)):
            return False
        if not all(_is_column(model, name) for name in model._meta.ordering):
            return False
    return True


def _manager_of(descriptor: Any) -> Any:
    """The manager that prefetching by that attribute of a model asks."""
    if not type(descriptor).__module__.startswith("django."):
        return None
    if isinstance(descriptor, ForwardManyToOneDescriptor):
        return descriptor.field.remote_field.model._base_manager
    if isinstance(descriptor, ReverseOneToOneDescriptor):
        return descriptor.related.related_model._base_manager
    if isinstance(descriptor, ReverseManyToOneDescriptor):
        field = descriptor.rel.field
        forward = field.one_to_many or not getattr(descriptor, "reverse", True)  # generic, or m2m
        related = descriptor.rel.model if forward else descriptor.rel.related_model
        return related._default_manager
    return None


def _is_known(kind: Any, names: Iterable[str]) -> bool:
    """Is whatever a class has of these Django's, or ours?"""
    return all(
        getattr(vars(one)[name], "__module__", "").startswith(("django.", "zoocache."))
        for one in kind.__mro__[:-1]
        for name in names
        if name in vars(one)
    )


def _is_column(model: Any, name: Any) -> bool:
    """May a model's order name it, and be the same each time? The hour of a datetime is another
    one in another time zone."""
    try:
        path = Query(model).names_to_path(name.lstrip("-+").split("__"), model._meta)
    except (AttributeError, FieldError):  # an expression, or "?"
        return False
    _, field, _, rest = path
    return not rest and not field.is_relation


def freeze(instances: Iterable[Any], lookups: Iterable[str], alias: str) -> Graph:
    """The graph of what a queryset returned; Unlike if it cannot be made again from values."""
    parts = tuple(dict.fromkeys(part for lookup in lookups for part in lookup.split("__")))
    places: dict[int, int] = {}
    found: list[Any] = []

    def place(instance: Any) -> int:
        known = places.get(id(instance))
        if known is None:
            if not isinstance(instance, Model) or not is_plain(type(instance)):
                raise Unlike
            known = places[id(instance)] = len(found)
            found.append(instance)
            if len(found) > MOST_NODES:
                raise Unlike
        return known

    roots = tuple(map(place, instances))
    nodes: list[Node] = []
    while len(nodes) < len(found):
        nodes.append(_freeze(found[len(nodes)], place, parts))
        if dict(nodes[-1].state).get("db") != alias:
            raise Unlike
    return Graph(tuple(nodes), roots)


def _freeze(instance: Any, place: Any, parts: tuple[str, ...]) -> Node:
    inside = dict(vars(instance))
    state = dict(vars(inside.pop("_state")))
    related = tuple(
        (name, None if other is None else place(other))
        for name, other in state.pop("fields_cache", {}).items()
    )
    prefetched = tuple(
        (name, _attribute(instance, queryset, parts), _kind(queryset), _rows(queryset, place))
        for name, queryset in inside.pop(_PREFETCHED, {}).items()
    )
    if local.size_of(tuple(inside.values())) is None or not state.keys() <= _STATE:
        raise Unlike
    values, states = tuple(inside.items()), tuple(state.items())
    return Node(type(instance), values, states, related, prefetched)


def _rows(queryset: Any, place: Any) -> tuple[int, ...]:
    if queryset._result_cache is None or not queryset._prefetch_done:
        raise Unlike
    return tuple(map(place, queryset._result_cache))


def _attribute(instance: Any, queryset: Any, parts: tuple[str, ...]) -> str:
    """By which of the names in the lookups the queryset is found."""
    for part in parts:
        descriptor = getattr(type(instance), part, None)
        if not hasattr(descriptor, "related_manager_cls"):
            continue  # to look at a foreign key might cost a query
        if getattr(instance, part).get_queryset() is queryset:
            return part
    raise Unlike


def thaw(graph: Graph) -> list[Any]:
    """New instances, as Django left them."""
    made = []
    for node in graph.nodes:
        instance, state = _new(node.model), _new(ModelState)
        state.__dict__.update(node.state)
        inside = instance.__dict__
        inside["_state"] = state
        inside.update(node.values)
        made.append(instance)
    for node, instance in zip(graph.nodes, made, strict=True):
        if node.related:
            instance._state.fields_cache = {
                name: None if at is None else made[at] for name, at in node.related
            }
        if node.prefetched:
            instance.__dict__[_PREFETCHED] = {
                name: _queryset(kind, instance, attribute, [made[at] for at in places])
                for name, attribute, kind, places in node.prefetched
            }
    return [made[at] for at in graph.roots]


def _queryset(kind: Any, instance: Any, attribute: str, rows: list[Any]) -> Any:
    queryset = _new(_unmade(kind))
    queryset.__dict__.update(
        _result_cache=rows,
        _prefetch_done=True,
        _prefetch_related_lookups=(),
        _whose=(instance, attribute),
    )
    return queryset


@functools.cache
def _unmade(kind: Any) -> Any:
    """The class of a queryset that has its rows and no query yet."""
    return type(kind.__name__, (_Unmade, kind), {"__module__": kind.__module__})


def _kind(queryset: Any) -> Any:
    kind = type(queryset)
    return kind.__mro__[2] if issubclass(kind, _Unmade) else kind


class _Unmade:
    """Becomes what the related manager gives as soon as anything but rows is asked for."""

    def _make(self) -> Any:
        inside = self.__dict__
        instance, attribute = inside.pop("_whose")
        rows = inside["_result_cache"]
        self.__class__ = _kind(self)
        whose = vars(instance)
        cache = whose.get(_PREFETCHED, {})
        whose[_PREFETCHED] = {}  # or the manager would give this one
        try:
            inside.update(vars(getattr(instance, attribute).get_queryset()))
        finally:
            whose[_PREFETCHED] = cache
        inside.update(_result_cache=rows, _prefetch_done=True)
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._make(), name)

    @property
    def query(self) -> Any:
        return self._make().query

    @query.setter
    def query(self, value: Any) -> None:
        self._make().query = value

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._make().__reduce_ex__(protocol)

    def __deepcopy__(self, memo: Any) -> Any:
        return self._make().__deepcopy__(memo)


def size_of(graph: Graph) -> int:
    """Bytes that a graph takes, about: its values, and what holds them."""
    values = sum(local.size_of(node.values) or 0 for node in graph.nodes)
    return values + 400 * len(graph.nodes)


def same(one: Graph, other: Graph) -> bool:
    return one == other and repr(one) == repr(other)
