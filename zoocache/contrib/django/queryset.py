"""The queryset of ZooCacheManager: Django's own, with a mark that says "cache me"."""

from __future__ import annotations

import functools
from typing import Any, TypeVar

from django.db.models import Model, QuerySet

from zoocache.config import UNSET, Unset, check_ttl
from zoocache.contrib.django.reading import Mark, mark_of, prefetching

M = TypeVar("M", bound=Model)


class ZooQuerySet(QuerySet[M]):
    """A QuerySet that can be served from the cache.

    `Model.cached` starts with a marked queryset, `Model.objects` with a plain
    one; the mark survives chaining. Everything else is Django's.
    """

    def zoocache(self, *, ttl: float | Unset | None = UNSET) -> ZooQuerySet[M]:
        """The same queryset, cached, for `ttl` seconds (None: no expiry; default: the setting's).

        Raises ConfigError for a ttl that is not positive.
        """
        if isinstance(ttl, Unset):
            known = mark_of(self.query)
            seconds = known.ttl if known else None
        else:
            seconds = check_ttl(ttl)
        clone = self._chain()  # type: ignore[attr-defined]
        clone.query.zoocache = Mark(seconds)
        return clone  # type: ignore[no-any-return]

    def no_cache(self) -> ZooQuerySet[M]:
        """The same queryset, always read from the database."""
        clone = self._chain()  # type: ignore[attr-defined]
        clone.query.zoocache = None
        return clone  # type: ignore[no-any-return]

    def _prefetch_related_objects(self) -> None:
        token = prefetching.set(mark_of(self.query))
        try:
            super()._prefetch_related_objects()  # type: ignore[misc]
        finally:
            prefetching.reset(token)


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
