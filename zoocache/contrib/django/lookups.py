"""Lookups that take every value of a type: with these nothing goes wrong for one value and not
for another, so a recipe of them need not be looked at by Django each time."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import models
from django.db.models import Q, fields

from zoocache.contrib.django import tags

# Fields that take every value of a type (within `_CONDITIONS`), by the field's exact class.
_TEXT = frozenset([fields.CharField, fields.TextField, fields.SlugField, fields.EmailField])
_FIELDS: dict[type, frozenset[type]] = {
    **dict.fromkeys(
        [
            fields.AutoField,
            fields.BigAutoField,
            fields.SmallAutoField,
            fields.IntegerField,
            fields.BigIntegerField,
            fields.SmallIntegerField,
            fields.PositiveIntegerField,
            fields.PositiveBigIntegerField,
            fields.PositiveSmallIntegerField,
        ],
        frozenset([int]),
    ),
    **dict.fromkeys(_TEXT, frozenset([str])),
    fields.BooleanField: frozenset([bool]),
    fields.UUIDField: frozenset([UUID]),
    fields.DecimalField: frozenset([Decimal, int]),
    fields.FloatField: frozenset([float]),  # some ints are too large for it
    fields.DateField: frozenset([date]),
    fields.DateTimeField: frozenset([datetime]),
    fields.DurationField: frozenset([timedelta]),
}
_COMPARISONS = frozenset(["gt", "gte", "lt", "lte"])
_TEXT_LOOKUPS = frozenset(
    [
        "contains",
        "endswith",
        "icontains",
        "iendswith",
        "iexact",
        "istartswith",
        "startswith",
    ]
)


def are_known(query: Any, structure: Any) -> bool:
    """Do all lookups take every value of the kinds that they were given?"""
    return all(
        are_known(query, part[3]) if part[0] is Q else _is_known(query, *part) for part in structure
    )


def _is_known(query: Any, name: str, kind: Any) -> bool:
    try:
        lookups, parts, annotation = query.solve_lookup_type(name)
        if annotation:
            return False
        *_, field, _, rest = query.names_to_path(parts, query.get_meta(), fail_on_missing=True)
    except Exception:
        return False
    if rest or len(lookups) > 1:
        return False
    lookup = lookups[0] if lookups else "exact"
    found = field.get_lookup(lookup)
    if found is None or not found.__module__.startswith("django.db.models."):
        return False  # one that somebody has registered
    if lookup == "isnull":
        return isinstance(kind, bool)
    if isinstance(kind, bool):
        kind = bool
    if isinstance(kind, tuple) and isinstance(kind[0], type) and issubclass(kind[0], models.Model):
        return lookup == "exact" and _is_key_of(field, *kind)
    target = tags.target_of(field)
    known = _FIELDS.get(type(target), frozenset())
    if type(target) is not type(field) and type(field) not in _RELATIONS:
        return False
    if kind is type(None):
        return lookup == "exact" and bool(known)
    if isinstance(kind, tuple):
        return kind[1] in known and (lookup == "in" or (lookup == "range" and kind[2] == 2))
    if lookup in _TEXT_LOOKUPS:
        return kind is str and type(target) in _TEXT
    return kind in known and (lookup == "exact" or lookup in _COMPARISONS)


_RELATIONS = (models.ForeignKey, models.OneToOneField)


def _is_key_of(field: Any, model: type[models.Model], kind: type) -> bool:
    """May an instance of the model stand for the field's value, as its primary key does?"""
    if type(field) not in _RELATIONS or field.remote_field.model is not model:
        return False
    target = field.target_field
    return bool(target.primary_key) and kind in _FIELDS.get(type(tags.target_of(target)), ())
