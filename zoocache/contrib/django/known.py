"""The tags of a project's tables, by name: events and entries have their hashes only."""

from __future__ import annotations

from collections.abc import Iterator

from django.apps import apps
from django.db.models import ForeignKey

from zoocache.contrib.django import tags as orm_tags


def tags() -> Iterator[str]:
    """All tags of all tables but those of single rows and values."""
    for model in apps.get_models(include_auto_created=True):
        table = model._meta.db_table
        yield orm_tags.root(table)
        yield orm_tags.any_of(table)
        yield orm_tags.rows(table)
        yield orm_tags.inserts(table)
        yield orm_tags.opaque(table)
        for field in model._meta.concrete_fields:
            if isinstance(field, ForeignKey) and field.column is not None:
                yield orm_tags.members(table, field.column)
