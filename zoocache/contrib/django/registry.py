"""The tables of the project's models, by their root tags."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.apps import apps
from django.db.models import deletion

from zoocache.contrib.django import tags

# From Django 6.1 on, a relation may leave its cascade to the database.
_DATABASE_ON_DELETE: Any = getattr(deletion, "DatabaseOnDelete", ())

_NO_VIEW = "zoocache.Status"  # nor a table: see models.py

_models: Any = None
_managed: dict[str, list[type[Any]]] = {}
_unmanaged: frozenset[str] = frozenset()


def _refresh() -> None:
    global _models, _managed, _unmanaged
    models = apps.get_models(True)  # by place: functools.cache is slow with names
    if models is _models:  # the registry returns the same list until it changes
        return
    managed: dict[str, list[type[Any]]] = {}
    for model in models:
        if model._meta.managed:
            managed.setdefault(tags.root(model._meta.db_table), []).append(model)
    _managed = managed
    _unmanaged = frozenset(
        tags.root(model._meta.db_table)
        for model in models
        if not model._meta.managed and model._meta.label != _NO_VIEW
    )
    _models = models


def perhaps_views(tables: Iterable[str]) -> bool:
    """Is one of the tables an unmanaged model's, perhaps a view over tables nobody can see?"""
    if not apps.models_ready:
        return True
    _refresh()
    return bool(_unmanaged) and not _unmanaged.isdisjoint(map(tags.root, tables))


def reached(tables: Iterable[str]) -> set[str] | None:
    """The tables that raw writes to these may change; None if one is not known, perhaps a view."""
    if not apps.models_ready:
        return None
    _refresh()
    found: set[str] = set()
    for table in tables:
        root = tags.root(table)
        if root not in _managed or root in _unmanaged:
            return None
        found.add(table)
        for model in _managed[root]:
            cascaded(model, found)
    return found


def cascaded(model: type[Any], seen: set[str]) -> set[str]:
    """Adds the tables that the database itself changes when rows of the model go (Django 6.1)."""
    relation: Any
    for relation in deletion.get_candidate_relations_to_delete(model._meta):  # the hidden ones too
        table = relation.related_model._meta.db_table
        if isinstance(relation.on_delete, _DATABASE_ON_DELETE) and table not in seen:
            seen.add(table)
            cascaded(relation.related_model, seen)
    return seen
