"""The tags that an ORM write invalidates, from its compiler.

A write never reads the row's previous values. What it leaves unknown it
invalidates as a whole: a foreign key column that a write does not set to a
known value may hold any value, so the column's whole dimension goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db.models import ForeignKey, IntegerField
from django.db.models.constants import OnConflict
from django.db.models.sql.compiler import SQLDeleteCompiler, SQLInsertCompiler, SQLUpdateCompiler

from zoocache.contrib.django import tags
from zoocache.contrib.django.dependencies import is_exact_key, only_pin, pins_of
from zoocache.contrib.django.meta import has_signals
from zoocache.contrib.django.registry import cascaded, perhaps_views

WRITE_COMPILERS = (SQLInsertCompiler, SQLUpdateCompiler, SQLDeleteCompiler)


def tables_of(compiler: Any) -> set[str] | None:
    """The tables that a write changes, with those that the database cascades to; None: any."""
    meta = compiler.query.model._meta
    tables = {meta.db_table}
    if isinstance(compiler, SQLDeleteCompiler):
        tables |= cascaded(meta.model, set())
    # A write to a view changes tables that nobody can see.
    return tables if meta.managed and not perhaps_views(tables) else None


def tags_of(compiler: Any) -> set[str]:
    """The tags of a write that is about to run."""
    meta = compiler.query.model._meta
    if not has_signals(meta.model):
        return {tags.root(meta.db_table)}
    keys = _keys(meta)
    if isinstance(compiler, SQLUpdateCompiler):
        return _update_tags(compiler.query, keys)
    if isinstance(compiler, SQLInsertCompiler):
        return _insert_tags(compiler.query, keys)
    return _delete_tags(compiler.query, keys)


def learning(compiler: Any) -> Callable[[Any], Iterable[str]] | None:
    """What gives more tags when the write's result is there; None where that tells nothing."""
    return partial(_made, compiler) if isinstance(compiler, SQLInsertCompiler) else None


def _made(compiler: Any, result: Any) -> set[str]:
    """The rows that an INSERT made, whose keys the database chose."""
    meta, returned = compiler.query.get_meta(), compiler.returning_fields or ()
    pk = _keys(meta).pk
    if result and meta.pk in returned:
        at = list(returned).index(meta.pk)
        return _tags(pk, (row[at] for row in result))
    # Bulk inserts that do not say.
    return {pk.every} if meta.pk not in compiler.query.fields else set()


def _insert_tags(query: Any, keys: _Keys) -> set[str]:
    if query.on_conflict == OnConflict.UPDATE:
        return {tags.root(keys.table)}
    found = {keys.any, tags.inserts(keys.table)}
    for key in keys.foreign:
        if key.field in query.fields:
            found |= _tags(key, (getattr(obj, key.field.attname) for obj in query.objs))
        else:
            found.add(key.every)
    if keys.pk.field in query.fields:
        found |= _tags(keys.pk, (getattr(obj, keys.pk.field.attname) for obj in query.objs))
    return found


def _update_tags(query: Any, keys: _Keys) -> set[str]:
    if not query.values:
        return set()
    by_column, pk, unknown = keys.by_column, keys.pk, set(keys.dimensions)
    found = _pinned_rows(query, pk)
    found.add(keys.any)
    for field, _, value in query.values:
        key = by_column.get(field.column)  # to hash a field itself is slow
        if key is None:
            continue
        if key is pk:
            return {tags.root(keys.table)}
        every = key.every
        unknown.discard(every)
        if type(value) is int and key.integers:
            found.add(f"{every}:{value}")
        elif value is not None:
            found |= _tags(key, (value,))
    return found | unknown if unknown else found


def _delete_tags(query: Any, keys: _Keys) -> set[str]:
    found = _pinned_rows(query, keys.pk)
    found.add(keys.any)
    found.update(map(tags.root, cascaded(query.get_meta().model, set())))
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Key:
    """A column whose values have tags: the primary key or a foreign key of a table."""

    field: Any
    every: str
    """The tag of all values; those of one are below it."""
    integers: bool
    """Are whole numbers their own canonical form?"""
    exact: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Keys:
    """The keys of a model's table."""

    table: str
    fields: Any
    any: str
    pk: _Key
    foreign: list[_Key]
    """Those whose values may narrow a cached query."""
    dimensions: frozenset[str]
    """The tags of all values of each of those."""
    by_column: dict[str, _Key]


def _keys(meta: Any) -> _Keys:
    """The keys of a model, worked out once for its table and its fields as they are now."""
    known: _Keys | None = getattr(meta, "_zoocache_keys", None)
    fields = meta.concrete_model._meta.local_concrete_fields  # a proxy has none of its own
    if known is not None and known.fields is fields and known.table == meta.db_table:
        return known
    table = meta.db_table
    foreign = [
        _key(field, tags.members(table, field.column))
        for field in fields
        if isinstance(field, ForeignKey) and not field.primary_key
    ]
    pk = _key(meta.pk, tags.rows(table))
    made = _Keys(
        table,
        fields,
        tags.any_of(table),
        pk,
        foreign,
        frozenset(key.every for key in foreign),
        {key.field.column: key for key in (*foreign, pk)},
    )
    meta._zoocache_keys = made
    return made


def _key(field: Any, every: str) -> _Key:
    integers = type(tags.target_of(field)).to_python is IntegerField.to_python
    return _Key(field, every, integers, is_exact_key(field))


def _tags(key: _Key, values: Iterable[Any]) -> set[str]:
    """The tags of the rows that have one of the values; of all rows if one is not known."""
    found = set()
    for value in values:
        if type(value) is int and key.integers:
            found.add(f"{key.every}:{value}")
        elif value is not None:  # no query is narrowed to NULL
            found.add(_tag(key, value))
    return found


def _tag(key: _Key, value: Any) -> str:
    if hasattr(value, "pk") and isinstance(key.field, ForeignKey):
        value = getattr(value, key.field.target_field.attname, None)
    known = None if hasattr(value, "resolve_expression") else tags.canonical(key.field, value)
    return key.every if known is None else f"{key.every}:{tags.quote(known)}"


def _pinned_rows(query: Any, pk: _Key) -> set[str]:
    if pk.integers and pk.exact and (only := only_pin(query)) is not None:  # as save() makes it
        field, value = only
        if field is pk.field and type(value) is int:
            return {f"{pk.every}:{value}"}
    # Not query.base_table: that is computed once, and without a WHERE there is no alias yet.
    alias = next(iter(query.alias_map), "")
    for pin in pins_of(query.where, alias):
        if pin.field is pk.field and pk.exact:
            return _tags(pk, pin.values)
    return {pk.every}
