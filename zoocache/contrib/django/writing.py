"""The tags that an ORM write invalidates, from its compiler.

A write never reads the row's previous values. What it leaves unknown it
invalidates as a whole: a foreign key column that a write does not set to a
known value may hold any value, so the column's whole dimension goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db.models import ForeignKey
from django.db.models.constants import OnConflict
from django.db.models.sql.compiler import SQLDeleteCompiler, SQLInsertCompiler, SQLUpdateCompiler

from zoocache.contrib.django import tags
from zoocache.contrib.django.dependencies import is_exact_key, pins_of
from zoocache.contrib.django.meta import has_signals
from zoocache.contrib.django.registry import cascaded, perhaps_views

WRITE_COMPILERS = (SQLInsertCompiler, SQLUpdateCompiler, SQLDeleteCompiler)


def table_of(compiler: Any) -> str:
    return str(compiler.query.get_meta().db_table)


def tables_of(compiler: Any) -> set[str] | None:
    """The tables that a write changes, with those that the database cascades to; None: any."""
    meta = compiler.query.get_meta()
    tables = {table_of(compiler)}
    if isinstance(compiler, SQLDeleteCompiler):
        tables |= cascaded(meta.model, set())
    # A write to a view changes tables that nobody can see.
    return tables if meta.managed and not perhaps_views(tables) else None


def tags_of(compiler: Any) -> set[str]:
    """The tags of a write that is about to run."""
    if not has_signals(compiler.query.get_meta().model):
        return {tags.root(table_of(compiler))}
    if isinstance(compiler, SQLInsertCompiler):
        return set(_insert_tags(compiler))
    if isinstance(compiler, SQLUpdateCompiler):
        return set(_update_tags(compiler))
    return set(_delete_tags(compiler))


def tags_of_result(compiler: Any, result: Any) -> Iterator[str]:
    """The rows that an INSERT made, whose keys the database chose."""
    if not isinstance(compiler, SQLInsertCompiler):
        return
    meta, returned = compiler.query.get_meta(), compiler.returning_fields or ()
    if result and meta.pk in returned:
        at = list(returned).index(meta.pk)
        for row in result:
            yield from _row(table_of(compiler), meta.pk, row[at])
    elif meta.pk not in compiler.query.fields:
        yield tags.rows(table_of(compiler))  # bulk inserts that do not say


def _insert_tags(compiler: Any) -> Iterator[str]:
    query, table = compiler.query, table_of(compiler)
    if query.on_conflict == OnConflict.UPDATE:
        yield tags.root(table)
        return
    yield tags.any_of(table)
    yield tags.inserts(table)
    meta = query.get_meta()
    for field in _foreign_keys(meta):
        if field not in query.fields:
            yield tags.members(table, field.column)
            continue
        for obj in query.objs:
            yield from _membership(table, field, getattr(obj, field.attname))
    if meta.pk in query.fields:
        for obj in query.objs:
            yield from _row(table, meta.pk, getattr(obj, meta.pk.attname))


def _update_tags(compiler: Any) -> Iterator[str]:
    query, table = compiler.query, table_of(compiler)
    meta = query.get_meta()
    written = {field: value for field, _, value in query.values}
    if not written:
        return
    if meta.pk in written:
        yield tags.root(table)
        return
    yield tags.any_of(table)
    yield from _pinned_rows(query, table)
    for field in _foreign_keys(meta):
        if field in written:
            yield from _membership(table, field, written[field])
        else:
            yield tags.members(table, field.column)


def _delete_tags(compiler: Any) -> Iterator[str]:
    table = table_of(compiler)
    yield tags.any_of(table)
    yield from _pinned_rows(compiler.query, table)
    for reached in cascaded(compiler.query.get_meta().model, set()):
        yield tags.root(reached)


def _foreign_keys(meta: Any) -> list[Any]:
    """The columns of the table whose values may narrow a cached query."""
    local = meta.concrete_model._meta.local_concrete_fields  # a proxy has none of its own
    return [field for field in local if isinstance(field, ForeignKey) and not field.primary_key]


def _membership(table: str, field: Any, value: Any) -> Iterator[str]:
    if value is None:
        return  # no query is narrowed to NULL
    if hasattr(value, "pk"):
        value = getattr(value, field.target_field.attname, None)
    key = None if hasattr(value, "resolve_expression") else tags.canonical(field, value)
    if key is None:
        yield tags.members(table, field.column)
    else:
        yield tags.member(table, field.column, key)


def _row(table: str, field: Any, value: Any) -> Iterator[str]:
    if value is None:
        return
    key = None if hasattr(value, "resolve_expression") else tags.canonical(field, value)
    yield tags.rows(table) if key is None else tags.row(table, key)


def _pinned_rows(query: Any, table: str) -> Iterator[str]:
    # Not query.base_table: that is computed once, and without a WHERE there is no alias yet.
    alias = next(iter(query.alias_map), "")
    for pin in pins_of(query.where, alias):
        if pin.field.primary_key and is_exact_key(pin.field):
            for value in pin.values:
                yield from _row(table, pin.field, value)
            return
    yield tags.rows(table)
