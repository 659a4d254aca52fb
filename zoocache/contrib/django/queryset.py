"""The queryset of ZooCacheManager: Django's own, with a mark that says "cache me"."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar, overload

from django.db.models import Model, QuerySet
from django.db.models.manager import BaseManager

from zoocache.config import UNSET, Unset, check_ttl
from zoocache.contrib.django import lazy, starting
from zoocache.contrib.django.lazy import LazyQuerySet
from zoocache.contrib.django.reading import Mark, mark_of, prefetching

if TYPE_CHECKING:
    from typing_extensions import Self

    from zoocache.contrib.django._typed import M, Row, TypedQuerySet
else:
    M = Row = TypeVar("M", bound=Model)
    TypedQuerySet = LazyQuerySet


class ZooQuerySet(TypedQuerySet[M, Row]):
    """A QuerySet that can be served from the cache.

    `Model.cached` starts with a marked queryset, `Model.objects` with a plain
    one; the mark survives chaining. Everything else is Django's.
    """

    def zoocache(self, *, ttl: float | Unset | None = UNSET) -> Self:
        """The same queryset, cached, for `ttl` seconds (None: no expiry; default: the setting's).

        Raises ConfigError for a ttl that is not positive.
        """
        if isinstance(ttl, Unset):
            known = lazy.mark_in(self)
            seconds = known.ttl if known else None
        else:
            seconds = check_ttl(ttl)
        clone = self._chain()  # type: ignore[attr-defined]
        clone.query.zoocache = Mark(seconds)
        return clone  # type: ignore[no-any-return]

    def no_cache(self) -> Self:
        """The same queryset, always read from the database."""
        clone = self._chain()  # type: ignore[attr-defined]
        clone.query.zoocache = None
        return clone  # type: ignore[no-any-return]

    def _prefetch_related_objects(self) -> None:
        token = prefetching.set(lazy.mark_in(self))
        try:
            super()._prefetch_related_objects()  # type: ignore[misc]
        finally:
            prefetching.reset(token)


lazy.record(ZooQuerySet, "zoocache")


def _from_database(name: str) -> Any:
    """A method that writes: what it reads on the way must be what the database holds now."""

    @functools.wraps(getattr(QuerySet, name))
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if mark_of(self.query) is not None:
            self._result_cache = None
            self = self.no_cache()
        return getattr(super(ZooQuerySet, self), name)(*args, **kwargs)

    return method


for _name in (
    "bulk_create",
    "bulk_update",
    "delete",
    "get_or_create",
    "update",
    "update_or_create",
):
    setattr(ZooQuerySet, _name, _from_database(_name))


def caching_class(own: Any) -> Any:
    """A queryset class that can be cached; what the user wrote goes first."""
    if issubclass(own, ZooQuerySet):
        return own
    return ZooQuerySet if own is QuerySet else _mixed(own)


@functools.cache
def _mixed(own: Any) -> Any:
    def reduced(self: Any) -> Any:
        return _new, (own,), self.__getstate__()  # pickle would not find the class by its name

    namespace = {"__module__": own.__module__, "__reduce__": reduced}
    return type(f"Zoo{own.__name__}", (own, ZooQuerySet), namespace)


def _new(own: Any) -> Any:
    kind = _mixed(own)
    return kind.__new__(kind)


@overload
def cached(source: type[M], *, ttl: float | Unset | None = ...) -> ZooQuerySet[M]: ...
@overload
def cached(source: BaseManager[M], *, ttl: float | Unset | None = ...) -> ZooQuerySet[M]: ...
@overload
def cached(source: QuerySet[M, Row], *, ttl: float | Unset | None = ...) -> ZooQuerySet[M, Row]: ...
def cached(source: Any, *, ttl: float | Unset | None = UNSET) -> Any:
    """A cached queryset of a model, a manager or a queryset, whoever wrote the model.

    `cached(User).filter(is_staff=True)`. `ttl` in seconds as in `zoocache()`. The
    source is left as it is. TypeError for anything else.
    """
    if isinstance(source, type) and issubclass(source, Model):
        if source._meta.abstract:
            raise TypeError(f"{source.__name__} is abstract: it has no rows to cache")
        source = source._default_manager
    if isinstance(source, BaseManager):
        return start_of(source, ttl)
    if not isinstance(source, QuerySet):
        raise TypeError(
            f"cached() takes a model, a manager or a queryset, not {source!r}"
            + (": raw SQL is never cached" if hasattr(source, "raw_query") else "")
        )
    clone = source._chain()  # type: ignore[attr-defined]
    clone.__class__ = caching_class(type(source))
    return clone.zoocache(ttl=ttl)


def start_of(manager: Any, ttl: float | Unset | None) -> Any:
    """A cached queryset of what a manager gives."""
    if type(manager).get_queryset is BaseManager.get_queryset:
        seconds = None if isinstance(ttl, Unset) else check_ttl(ttl)
        kind = caching_class(manager._queryset_class)
        return starting.start(kind, manager.model, manager._db, manager._hints, seconds)
    return cached(manager.get_queryset(), ttl=ttl)
