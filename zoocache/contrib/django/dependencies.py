"""The tags that a result depends on.

A whitelist. A result narrowed by primary key depends on those rows; one
narrowed by a foreign key, in the shapes where that is sound, on the membership
and on the rows that it returned; every other table and every other shape on
`any`. Narrowing counts only where the table occurs once in the statement: its
other occurrence would have rows in neither set.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from django.db.models import ForeignKey, fields, lookups
from django.db.models.expressions import Col
from django.db.models.fields import related, related_lookups
from django.db.models.sql.datastructures import BaseTable
from django.db.models.sql.where import AND

from zoocache.contrib.django import tags
from zoocache.contrib.django.footprint import Footprint

MAX_PINS = 256
MAX_ROWS = 256
MAX_HELD = 512

EQUALITIES = {
    lookups.Exact,
    getattr(lookups, "IntegerFieldExact", lookups.Exact),  # from Django 5 on
    related_lookups.RelatedExact,
}
_DJANGO = {fields.__name__, related.__name__}
_MANY = {lookups.In, related_lookups.RelatedIn}


class Pin(NamedTuple):
    """A column that a WHERE clause limits to the given values."""

    field: Any
    values: list[Any]


def is_exact_key(field: Any) -> bool:
    """Do equal values of the column have one form? Not so for text, which collations fold."""
    target = tags.target_of(field)
    return (
        type(field).__module__ in _DJANGO  # a class of the user's may change what is written
        and type(target).__module__ == fields.__name__
        and isinstance(target, (fields.IntegerField, fields.UUIDField))
    )


def pins_of(where: Any, alias: str) -> list[Pin]:
    """The pins on the columns of one alias, from the conjunction at the root of a WHERE."""
    if where.connector != AND or where.negated:
        return []
    pins = []
    for leaf in where.children:
        kind = type(leaf)
        if kind in EQUALITIES:
            values = [leaf.rhs]
        elif kind in _MANY:
            if not isinstance(leaf.rhs, (list, tuple, set, frozenset)):
                continue
            values = list(leaf.rhs)
        else:
            if hasattr(leaf, "children"):
                pins += pins_of(leaf, alias)
            continue
        column = leaf.lhs
        if type(column) is Col and column.alias == alias and _are_plain(values):
            pins.append(Pin(column.target, values))
    return pins


def _are_plain(values: list[Any]) -> bool:
    """Are they few, and no expressions? Takes NULLs away: nothing equals them."""
    if len(values) > MAX_PINS:
        return False
    for value in values:
        if hasattr(value, "resolve_expression"):
            return False
    if None in values:
        values[:] = [value for value in values if value is not None]
    return True


def dependencies(compiler: Any, footprint: Footprint, rows: Sequence[Any] | None) -> set[str]:
    """The tags of a SELECT's result. `rows` are its rows, None where it shows a scalar."""
    query = compiler.query
    # Of a combined query only the first part shows its WHERE.
    base = None if query.combinator else _base_table(query, footprint)
    deps: set[str] = set()
    for table in footprint.tables:
        if table != base:
            deps |= {tags.any_of(table), tags.opaque(table)}
    if base is None:
        return deps
    pins = pins_of(query.where, query.base_table)
    deps.update(_membership_tags(base, pins))
    keys = _returned_keys(compiler, rows)
    pk_pin = next((p for p in pins if p.field.primary_key and is_exact_key(p.field)), None)
    if pk_pin is not None and footprint.tables[base] == 1:
        pinned = [tags.canonical(pk_pin.field, value) for value in pk_pin.values]
        deps.update(tags.row(base, pk) for pk in pinned)
        # A row that is not there yet has no tag of its own before it is inserted.
        if keys is None or not keys.issuperset(pinned):
            deps.add(tags.inserts(base))
        return deps
    few = keys is not None and len(keys) <= MAX_ROWS
    if keys is not None and few and _narrowed_by_key(query, footprint, pins, base):
        deps.update(tags.row(base, pk) for pk in keys)
        return deps
    deps.add(tags.any_of(base))
    deps |= _tags_for_hand(base, keys)
    return deps


def _base_table(query: Any, footprint: Footprint) -> str | None:
    """The table of the rows that the query returns; None for an aggregate over a subquery."""
    source = query.alias_map.get(query.base_table) if query.alias_map else None
    if type(source) is not BaseTable or not footprint.tables[source.table_name]:
        return None
    return str(source.table_name)


def _membership_tags(base: str, pins: Iterable[Pin]) -> Iterable[str]:
    for pin in pins:
        if isinstance(pin.field, ForeignKey) and not pin.field.primary_key:
            for value in pin.values:
                yield tags.member(base, pin.field.column, tags.canonical(pin.field, value))


def _narrowed_by_key(query: Any, footprint: Footprint, pins: Iterable[Pin], base: str) -> bool:
    return (
        footprint.tables[base] == 1
        and any(
            isinstance(p.field, ForeignKey) and not p.field.primary_key and is_exact_key(p.field)
            for p in pins
        )
        and query.low_mark == 0
        and not query.combinator
        and not query.distinct_fields
        and query.group_by is None
        and not footprint.has_window
    )


def _returned_keys(compiler: Any, rows: Sequence[Any] | None) -> set[object] | None:
    """The primary keys of the model rows that were returned; None if they do not show."""
    if rows is None or compiler.klass_info is None:
        return None
    base = compiler.query.base_table
    for index in compiler.klass_info["select_fields"]:
        column = compiler.select[index][0]
        # A multi-table child has its parents' keys among its columns, too.
        if type(column) is Col and column.alias == base and column.target.primary_key:
            keys = {tags.canonical(column.target, row[index]) for row in rows}
            return None if None in keys else keys
    return None


def _tags_for_hand(base: str, keys: set[object] | None) -> set[str]:
    if keys is None:
        return {tags.opaque(base)}
    if len(keys) > MAX_HELD:
        return {tags.bucket(base, pk) for pk in keys}
    return {tags.held(base, pk) for pk in keys}
