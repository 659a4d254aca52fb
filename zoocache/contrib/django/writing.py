"""The tags that an ORM write invalidates, from its compiler.

A write never reads the row's previous values. What it leaves unknown it
invalidates as a whole: a foreign key column that a write does not set to a
known value may hold any value, so the column's whole dimension goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.apps import apps
from django.db.models import ForeignKey, IntegerField
from django.db.models.constants import OnConflict
from django.db.models.expressions import Col
from django.db.models.sql.compiler import SQLDeleteCompiler, SQLInsertCompiler, SQLUpdateCompiler

from zoocache.contrib.django import tags
from zoocache.contrib.django.dependencies import EQUALITIES, is_exact_key, pins_of
from zoocache.contrib.django.meta import has_signals
from zoocache.contrib.django.registry import cascaded, perhaps_views
from zoocache.shm import _core

WRITE_COMPILERS = (SQLInsertCompiler, SQLUpdateCompiler, SQLDeleteCompiler)

_MOST_KEYS = 64  # of one table, in an Update

Learn = Callable[[Any], Iterable[str]]


def written_by(compiler: Any) -> tuple[AbstractSet[str], AbstractSet[str] | None, Learn | None]:
    """The tags of a write that is about to run, and the roots of the tables that it changes, with
    those that the database cascades to; None: any table. And what gives more tags of an INSERT
    when its result is there.
    """
    query = compiler.query
    keys, fine = _keys(query.model._meta), has_signals(query.model)
    if isinstance(compiler, SQLUpdateCompiler):
        return _update_tags(query, keys) if fine else {keys.root}, keys.roots, None
    if isinstance(compiler, SQLInsertCompiler):
        made = partial(_made, compiler)
        return _insert_tags(query, keys) if fine else {keys.root}, keys.roots, made
    tables = cascaded(query.model, set())
    below = {tags.root(table) for table in tables}
    found = {*_pinned_rows(query, keys.pk), keys.any} if fine else {keys.root}
    known = keys.roots is not None and not perhaps_views(tables)
    return found | below, below | {keys.root} if known else None, None


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
        return {keys.root}
    found = {keys.any, tags.inserts(keys.table)}
    for key in keys.foreign:
        if key.field in query.fields:
            found |= _tags(key, (getattr(obj, key.field.attname) for obj in query.objs))
        else:
            found.add(key.every)
    if keys.pk.field in query.fields:
        found |= _tags(keys.pk, (getattr(obj, keys.pk.field.attname) for obj in query.objs))
    return found


def _update_tags(query: Any, keys: _Keys) -> AbstractSet[str]:
    if keys.update is not None:  # as save() makes it, mostly
        quickly: frozenset[str] | None = keys.update.tags(query)
        if quickly is not None:
            return quickly
    if not query.values:
        return set()
    by_column, pk, unknown = keys.by_column, keys.pk, set(keys.dimensions)
    found = {*_pinned_rows(query, pk), keys.any}
    for field, _, value in query.values:
        column = field.column  # to hash a field itself is slow
        if column not in by_column:
            continue
        key = by_column[column]
        if key is pk:
            return {keys.root}
        every = key.every
        unknown.discard(every)
        if type(value) is int and key.integers:
            found.add(f"{every}:{value}")
        elif value is not None:
            found |= _tags(key, (value,))
    return found | unknown if unknown else found


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
    """What the tags of writes to a model's table are made of."""

    table: str
    fields: Any
    models: Any
    managed: bool
    root: str
    roots: frozenset[str] | None
    """That one; None if it is perhaps a view: a write to it changes tables that nobody can see."""
    any: str
    pk: _Key
    foreign: list[_Key]
    """Those whose values may narrow a cached query."""
    dimensions: frozenset[str]
    """The tags of all values of each of those."""
    by_column: dict[str, _Key]
    update: Any
    """Makes the tags of most updates; None: of none."""


def _keys(meta: Any) -> _Keys:
    """Those of a model, worked out once for its table, its fields and all models as they are."""
    known: _Keys | None = getattr(meta, "_zoocache_keys", None)
    table, fields = meta.db_table, meta.concrete_model._meta.local_concrete_fields  # not a proxy's
    # The same list until the registry changes; by place: functools.cache is slow with names.
    models = apps.get_models(True) if apps.models_ready else None
    if (
        known is not None
        and known.fields is fields
        and known.models is models
        and known.managed is meta.managed
        and known.table == table
    ):
        return known
    foreign = [
        _key(field, tags.members(table, field.column))
        for field in fields
        if isinstance(field, ForeignKey) and not field.primary_key
    ]
    pk = _key(meta.pk, tags.rows(table))
    by_column = {key.field.column: key for key in (*foreign, pk)}
    made = _Keys(
        table,
        fields,
        models,
        meta.managed,
        tags.root(table),
        frozenset([tags.root(table)]) if meta.managed and not perhaps_views([table]) else None,
        tags.any_of(table),
        pk,
        foreign,
        frozenset(key.every for key in foreign),
        by_column,
        _update(fields, by_column, pk, tags.any_of(table)),
    )
    meta._zoocache_keys = made
    return made


def _update(fields: Iterable[Any], by_column: dict[str, _Key], pk: _Key, any_of: str) -> Any:
    known = [(field, by_column.get(field.column)) for field in fields]
    columns = {
        field: None if key is None else (field.column, key.every, key.integers)
        for field, key in known
        if key is not pk  # what sets that is not like most
    }
    few = sum(said is not None for said in columns.values()) <= _MOST_KEYS
    if not (pk.integers and pk.exact and few):
        return None
    given = tuple(columns), tuple(columns.values())
    return _core.Update(any_of, pk.every, pk.field, Col, EQUALITIES, *given)


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
    # Not query.base_table: that is computed once, and without a WHERE there is no alias yet.
    alias = next(iter(query.alias_map), "")
    for pin in pins_of(query.where, alias):
        if pin.field is pk.field and pk.exact:
            return _tags(pk, pin.values)
    return {pk.every}
