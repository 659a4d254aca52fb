"""ZooCacheManager, and the `cached` manager that it brings along."""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Any, TypeVar

from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.db.models.manager import BaseManager
from django.db.models.signals import class_prepared

from zoocache.config import check_ttl
from zoocache.contrib.django import lazy, recipes, starting
from zoocache.contrib.django.queryset import ZooQuerySet, cached, caching_class

if TYPE_CHECKING:
    from zoocache.contrib.django._typed import M, TypedManager
else:
    M = TypeVar("M", bound=models.Model)
    TypedManager = models.Manager.from_queryset(ZooQuerySet)


class ZooCacheManager(TypedManager[M]):
    """`objects = ZooCacheManager()` gives a model `Model.cached` beside a plain `Model.objects`.

    `ttl` in seconds is the time to live of what `Model.cached` stores (None: the
    setting's). A model that declares only `cached = ZooCacheManager()` keeps the
    `objects` that Django gives it.
    """

    _caching = False
    _known_start = starting.Start(None, None)

    def __init__(self, ttl: float | None = None) -> None:
        super().__init__()
        self.ttl = check_ttl(ttl)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = cls.__dict__.get("_queryset_class")
        if own is not None:  # ZooCacheManager.from_queryset(MyQuerySet) keeps both
            cls._queryset_class = caching_class(own)

    def get_queryset(self) -> Any:
        hints = self._hints  # type: ignore[attr-defined]
        if not self._caching:
            return super().get_queryset()
        if _is_last(type(self)):  # type: ignore[arg-type]
            return starting.start(self._queryset_class, self.model, self._db, hints, self.ttl)
        return cached(super().get_queryset(), ttl=self.ttl)

    def _start(self) -> Any:
        """A queryset to go on from: one for all calls, where they would all get the same."""
        known = self._known_start
        if known.is_for(self._db):
            return known.queryset
        queryset = self.get_queryset()
        is_own = type(self).get_queryset is not ZooCacheManager.get_queryset
        if self._caching and not is_own and not self._hints and _is_last(type(self)):  # type: ignore
            self._known_start = starting.Start(self._db, queryset)
        return queryset

    def contribute_to_class(self, cls: type[models.Model], name: str) -> None:
        if name == "cached" and not self._caching:
            self.__class__ = _caching_class(type(self))
        super().contribute_to_class(cls, name)
        if name != "cached" and not self._caching and not _declares(cls, "cached"):
            cached: Any = copy.copy(self)
            cached.__class__ = _caching_class(type(self))
            cached.name = None
            cached._set_creation_counter()
            cls.add_to_class("cached", cached)


def _going_on(name: str) -> Any:
    go = lazy.get if name == "get" else lazy.grows[name]

    @functools.wraps(getattr(models.QuerySet, name))
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        known = self._known_start
        if known.roots is recipes.roots and known.using is self._db and known.is_plain:
            queryset = known.queryset
            if queryset._recipe is not None:
                return go(queryset, args, kwargs)
        return getattr(self._start(), name)(*args, **kwargs)

    return method


for _name in starting.GOING_ON:
    setattr(ZooCacheManager, _name, _going_on(_name))


@functools.cache
def _is_last(kind: type[Any]) -> bool:
    """Is Django's own the next get_queryset() behind ZooCacheManager's?"""
    behind = kind.__mro__[kind.__mro__.index(ZooCacheManager) + 1 :]
    return next(one for one in behind if "get_queryset" in vars(one)) is BaseManager


def _caching_class(manager_class: type[Any]) -> type[Any]:
    """The manager's class with caching on, as a class so that related managers inherit it."""
    known = manager_class.__dict__.get("_caching_class")
    if known is None:
        # Migrations could not import the class; they have no use for it. By its name, django-stubs
        # finds the class that is in the source, and so the type of `Model.cached`.
        namespace = {
            "_caching": True,
            "__module__": manager_class.__module__,
            "__qualname__": manager_class.__qualname__,
            "use_in_migrations": False,
        }
        known = type(manager_class.__name__, (manager_class,), namespace)
        manager_class._caching_class = known
    return known


def _declares(cls: type[models.Model], name: str) -> bool:
    """Does the class body itself say what `name` is?"""
    if name in cls.__dict__:
        return True
    try:
        cls._meta.get_field(name)
    except FieldDoesNotExist:
        return False
    return True


def _keep_default_plain(sender: type[models.Model], **kwargs: Any) -> None:
    """Puts a plain manager in front where a caching one would be the model's default."""
    options: Any = sender._meta
    _drop_overridden(sender, options)
    if options.default_manager_name or not options.managers or not _is_caching(options.managers[0]):
        return
    in_front = min(manager.creation_counter for manager in options.managers) - 0.5
    plain: Any = next((m for m in options.managers if not _is_caching(m)), None)
    if plain is None:
        plain, name = models.Manager(), "objects"
        plain.auto_created = True
    else:
        name = plain.name
        for own in options.local_managers:
            if own.name == name:
                own.creation_counter = in_front
                options._expire_cache()
                return
        plain = copy.copy(plain)
    plain.creation_counter = in_front
    sender.add_to_class("uncached" if _declares(sender, name) else name, plain)


def _drop_overridden(sender: type[models.Model], options: Any) -> None:
    """Of managers with one name, only the last is the class's: Meta's give way to the body's."""
    current = [getattr(vars(sender).get(m.name), "manager", m) for m in options.local_managers]
    kept = [m for m, now in zip(options.local_managers, current, strict=True) if m is now]
    if len(kept) < len(options.local_managers):
        options.local_managers[:] = kept
        options._expire_cache()


def _is_caching(manager: Any) -> bool:
    return getattr(manager, "_caching", False)


class_prepared.connect(_keep_default_plain, dispatch_uid="zoocache.keep_default_plain")
