"""ZOOCACHE["MODELS"]: models whose `objects` caches by itself, other people's too.

Only the attribute: `_default_manager` and `_base_manager` stay as they are, so
admin, validation, related managers and `refresh_from_db` read the database.
"""

from __future__ import annotations

import copy
import functools
import inspect
from typing import Any

from django.apps import apps
from django.db.models.manager import ManagerDescriptor
from django.db.models.signals import class_prepared

from zoocache.contrib.django.options import Rule, options
from zoocache.contrib.django.queryset import cached

_NAME = "objects"


def install() -> None:
    """Looks at all models, those that are there and those to come."""
    class_prepared.connect(_look_at, dispatch_uid="zoocache.patterns")
    refresh()


def refresh() -> None:
    """Looks at all models again: the setting has changed."""
    _caching_manager.cache_clear()
    for models in apps.all_models.values():
        for model in models.values():
            _look_at(model)


def rule_of(model: Any) -> Rule | None:
    """What the setting says of a model; the most exact pattern counts."""
    rules, meta = options().models, model._meta
    for pattern in (meta.label_lower, f"{meta.app_label}.*", "*.*", "*"):
        if pattern in rules:
            return rules[pattern]
    return None


def unmatched() -> list[str]:
    """Patterns of the setting that no model matches."""
    known = {"*.*", "*"}
    for model in apps.get_models(include_auto_created=True):
        known |= {model._meta.label_lower, f"{model._meta.app_label}.*"}
    return [pattern for pattern in options().models if pattern not in known]


def _look_at(sender: Any, **kwargs: Any) -> None:
    # An abstract base may have declared it: `auth.User` has its manager from there.
    plain = inspect.getattr_static(sender, _NAME, None)
    if type(plain) is ManagerDescriptor and options().models and sender.__module__ != "__fake__":
        setattr(sender, _NAME, _Descriptor(plain.manager))  # type: ignore[arg-type]


class _Descriptor(ManagerDescriptor):
    """Decides for each class: proxies and children find it on their base."""

    def __get__(self, instance: Any, cls: Any = None) -> Any:
        manager: Any = super().__get__(instance, cls)
        rule = rule_of(cls)
        return manager if rule is None else _caching_manager(cls, manager, rule)


@functools.cache
def _caching_manager(cls: Any, manager: Any, rule: Rule) -> Any:
    caching = copy.copy(manager)
    kind: Any = type(manager)
    caching.__class__ = _caching_class(kind)
    caching._zoocache_ttl = rule.ttl
    return caching


class _Caching:
    _zoocache_ttl: float | None

    def get_queryset(self) -> Any:
        return cached(super().get_queryset(), ttl=self._zoocache_ttl)  # type: ignore[misc]


@functools.cache
def _caching_class(kind: Any) -> Any:
    return type("Cached" + kind.__name__, (_Caching, kind), {"__module__": kind.__module__})
