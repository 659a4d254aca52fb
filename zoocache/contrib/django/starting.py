"""Where cached querysets start: at a shape of all rows of a model, which later calls grow from."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet

from zoocache.contrib.django import recipes
from zoocache.contrib.django.lazy import LazyQuerySet
from zoocache.contrib.django.recipes import Shape

_new: Callable[[Any], Any] = object.__new__

# Methods that recipes take for Django's own.
_DJANGOS = (
    "__deepcopy__",
    "__getattribute__",
    "__getstate__",
    "__init__",
    "__new__",
    "__setattr__",
    "_annotate",
    "_chain",
    "_clone",
    "_fetch_all",
    "_filter_or_exclude",
    "_filter_or_exclude_inplace",
    "_iterator",
    "_values",
    "db",
    "ordered",
    "query",
)


# Names that a queryset class of somebody's may have, too.
_OURS = [name for name in vars(LazyQuerySet) if name[0] == "_" != name[1]]


@functools.cache
def _may_be_lazy(kind: type[Any]) -> bool:
    """Is the class Django's in all that a recipe leaves out?"""
    for name in (*_DJANGOS, *_OURS):
        owner = next(one for one in kind.__mro__ if name in vars(one))
        if owner is not LazyQuerySet and owner not in QuerySet.__mro__:
            return False
    return True


def start(kind: Any, model: Any, using: str | None, hints: Any, ttl: float | None) -> Any:
    """A cached queryset of all of a model; `kind` is its class, a ZooQuerySet."""
    key = kind, model, ttl
    root = recipes.roots.get(key)
    if root is None:
        queryset = kind(model=model, using=using, hints=hints).zoocache(ttl=ttl)
        if not _may_be_lazy(kind):
            return queryset
        mark = queryset.query.zoocache

        def replay(queryset: Any, values: tuple[Any, ...]) -> Any:
            queryset.query.zoocache = mark
            return queryset

        root = recipes.roots[key] = Shape(None, (), replay, 0, queryset)
        recipes.note_shape()
    new = _new(kind)
    own = new.__dict__
    own.update(root.attributes)
    own["_recipe"] = root, ()
    if using is not None:
        own["_db"] = using
    if hints:
        own["_hints"] = hints
    return new


GOING_ON = ("exclude", "filter", "get", "order_by", "select_related", "values_list")
"""Methods of a manager's queryset that are called most."""


class Start:
    """The queryset that all calls of a manager go on from."""

    __slots__ = ("is_plain", "queryset", "roots", "using")

    def __init__(self, using: str | None, queryset: Any) -> None:
        self.roots = recipes.roots
        self.using = using
        self.queryset = queryset
        kind = type(queryset)
        self.is_plain = isinstance(queryset, LazyQuerySet) and all(
            getattr(kind, name) is getattr(LazyQuerySet, name) for name in GOING_ON
        )
        """Are those methods of the queryset LazyQuerySet's?"""

    def is_for(self, using: str | None) -> bool:
        """Would the manager get the same again, for that alias?"""
        return (
            self.roots is recipes.roots
            and self.using == using
            and self.queryset is not None
            and self.queryset._recipe is not None
        )
