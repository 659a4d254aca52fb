"""Wrong rules of what a read depends on, and of what a write invalidates: the fuzzers find them.

They are changed where the rules are, below whatever serves a read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.constants import OnConflict

from zoocache.contrib.django import connection, dependencies, footprint, tags, writing
from zoocache.contrib.django.lexer import Effect, Kind, effect_of

Patch = pytest.MonkeyPatch
Mutate = Callable[[Patch], None]

NOTHING = "@nothing"


def _without(module: Any, **gone: Any) -> Mutate:
    """The module's tags of these names are lost."""

    def mutate(patch: Patch) -> None:
        lost = {name: lambda *parts: NOTHING for name in gone}
        patch.setattr(module, "tags", SimpleNamespace(**{**vars(tags), **lost}))

    return mutate


def _writes_lose(lost: Callable[[Any, str], bool]) -> Mutate:
    """Of the tags of a write, those that `lost(compiler, tag)` names."""

    def mutate(patch: Patch) -> None:
        original = writing.written_by

        def written_by(compiler: Any) -> Any:
            written, *rest = original(compiler)
            return {tag for tag in written if not lost(compiler, tag)}, *rest

        patch.setattr(writing, "written_by", written_by)

    return mutate


def _is_dimension(tag: str) -> bool:
    """Is it of all values of a foreign key?"""
    return ":mem:" in tag and tag.count(":") == 2


def _written(compiler: Any) -> set[str]:
    values = getattr(compiler.query, "values", [])
    return {":mem:" + field.column for field, _, _ in values}


def _unknown_key(compiler: Any, tag: str) -> bool:
    return _is_dimension(tag) and not tag.endswith(tuple(_written(compiler)) or ("-",))


def _expressed_key(compiler: Any, tag: str) -> bool:
    return _is_dimension(tag) and tag.endswith(tuple(_written(compiler)) or ("-",))


def _of_history(compiler: Any, tag: str) -> bool:
    return compiler.query.model.__module__ == "__fake__"


def _of_null(compiler: Any, tag: str) -> bool:
    values = getattr(compiler.query, "values", None)
    return bool(values) and all(value is None for _, _, value in values)


def _of_fast_delete(compiler: Any, tag: str) -> bool:
    return isinstance(compiler, writing.WRITE_COMPILERS[2]) and "_id" in str(compiler.query)


def _upsert_is_an_insert(patch: Patch) -> None:
    original = writing._insert_tags

    def insert_tags(query: Any, keys: Any) -> set[str]:
        if query.on_conflict is OnConflict.UPDATE:
            return {keys.any, tags.inserts(keys.table)}
        return original(query, keys)

    patch.setattr(writing, "_insert_tags", insert_tags)


def _inserts_name_no_rows(patch: Patch) -> None:
    _without(dependencies, inserts=1)(patch)
    patch.setattr(writing, "_made", lambda compiler, result: ())
    original = writing._insert_tags
    patch.setattr(
        writing,
        "_insert_tags",
        lambda query, keys: {
            tag for tag in original(query, keys) if not tag.startswith(keys.pk.every)
        },
    )


def _notes(note: Callable[[Any, Any, Callable[[], None]], None]) -> Mutate:
    """Of a FROM, what `note(footprint, query, original)` makes of it."""

    def mutate(patch: Patch) -> None:
        original = footprint.Footprint.note_from

        def note_from(self: Any, query: Any) -> None:
            note(self, query, lambda: original(self, query))

        patch.setattr(footprint.Footprint, "note_from", note_from)

    return mutate


def _no_subquery(self: Any, query: Any, original: Callable[[], None]) -> None:
    if not query.subquery:
        original()


def _first_only(self: Any, query: Any, original: Callable[[], None]) -> None:
    if not self.tables:
        original()


def _no_joins(self: Any, query: Any, original: Callable[[], None]) -> None:
    before = self.tables.copy()
    original()
    base = query.alias_map[query.base_table].table_name
    for table in set(self.tables) - set(before) - {base}:
        del self.tables[table]


def _once(self: Any, query: Any, original: Callable[[], None]) -> None:
    original()
    for table in self.tables:
        self.tables[table] = 1


def _offset_is_narrow(patch: Patch) -> None:
    original = dependencies._narrowed_by_key

    def narrowed(query: Any, *rest: Any) -> bool:
        query = query.clone()
        query.low_mark = 0
        return original(query, *rest)

    patch.setattr(dependencies, "_narrowed_by_key", narrowed)


def _no_membership(patch: Patch) -> None:
    patch.setattr(dependencies, "_membership_tags", lambda base, pins: ())


def _combined_by_first(patch: Patch) -> None:
    original = dependencies.dependencies

    def narrowed(compiler: Any, footprint: Any, rows: Any) -> set[str]:
        combinator, compiler.query.combinator = compiler.query.combinator, None
        try:
            return original(compiler, footprint, rows)
        finally:
            compiler.query.combinator = combinator

    _notes(_once)(patch)
    for module in (dependencies, *_users_of(original)):
        patch.setattr(module, "dependencies", narrowed)


def _users_of(function: Any) -> Iterable[Any]:
    """The modules that have imported it by name."""
    import sys

    return [
        module
        for name, module in list(sys.modules.items())
        if name.startswith("zoocache.") and vars(module).get(function.__name__) is function
    ]


def _proxies_by_name(patch: Patch) -> None:
    original = writing._keys

    def keys(meta: Any) -> Any:
        found = original(meta)
        if not meta.proxy:
            return found
        table = f"shop_{meta.model_name}"
        pk = dataclasses.replace(found.pk, every=tags.rows(table))
        foreign = [
            dataclasses.replace(key, every=tags.members(table, key.field.column))
            for key in found.foreign
        ]
        return dataclasses.replace(
            found,
            update=None,
            table=table,
            any=tags.any_of(table),
            pk=pk,
            foreign=foreign,
            dimensions=frozenset(key.every for key in foreign),
            by_column={key.field.column: key for key in (*foreign, pk)},
        )

    patch.setattr(writing, "_keys", keys)


def _six_keywords(patch: Patch) -> None:
    """As some do: only texts that begin with a word of DML are writes."""

    def effect(text: str) -> Effect:
        found = effect_of(text)
        word = text.lstrip().split(None, 1)[0].upper()
        known = word in ("INSERT", "UPDATE", "DELETE")
        return found if known or found.kind not in (Kind.WRITE, Kind.UNKNOWN) else Effect(Kind.READ)

    patch.setattr(connection, "effect_of", effect)


def _own_writes_unseen(patch: Patch) -> None:
    patch.setattr(connection.ConnectionState, "reads_own_writes", lambda self, tables: False)


def _savepoints_forget(patch: Patch) -> None:
    original = BaseDatabaseWrapper.savepoint_rollback

    def savepoint_rollback(self: Any, sid: str) -> None:
        original(self, sid)
        connection.state_of(self).written.forget()

    patch.setattr(BaseDatabaseWrapper, "savepoint_rollback", savepoint_rollback)


def _published_at_the_statement(patch: Patch) -> None:
    """And not at COMMIT."""
    original = connection.ConnectionState._write

    def write(self: Any, *rest: Any) -> Any:
        try:
            return original(self, *rest)
        finally:
            self.written.publish()
            self.written.tags = frozenset()

    patch.setattr(connection.ConnectionState, "_write", write)


UNKNOWN_KEYS: dict[str, Mutate] = {
    "keys that a write leaves unknown are taken to stay": _writes_lose(_unknown_key),
}
EXPRESSED_KEYS: dict[str, Mutate] = {
    "a key by expression is no move": _writes_lose(_expressed_key),
}
SUBQUERIES: dict[str, Mutate] = {"subqueries are not looked into": _notes(_no_subquery)}
ONCE: dict[str, Mutate] = {"a table occurs once": _notes(_once)}
JOINS: dict[str, Mutate] = {"joins are not looked at": _notes(_no_joins)}
ABSENT: dict[str, Mutate] = {"an insert names no rows that were absent": _inserts_name_no_rows}

MUTANTS: dict[str, dict[str, Mutate]] = {
    "a partial write, LIMIT, and the order of an annotation": UNKNOWN_KEYS,
    "a deferred instance is saved": UNKNOWN_KEYS,
    "a foreign key is set by an expression": EXPRESSED_KEYS,
    "some columns are updated in bulk": UNKNOWN_KEYS | EXPRESSED_KEYS,
    "a row enters or leaves a slice": UNKNOWN_KEYS | {
        "an offset is as narrow as a limit": _offset_is_narrow
    },
    "exclude over many, and the other table's rows move": SUBQUERIES | ONCE,
    "Exists and its negation": SUBQUERIES | ONCE,
    "many to many, from both sides": JOINS,
    "a multi-table child, and its parent's columns": JOINS,
    "proxies and historical models": {
        "tags are of models, not of tables": _proxies_by_name,
        "historical models are none": _writes_lose(_of_history),
    },
    "the parts of a union": {
        "later parts are not looked at": _notes(_first_only),
        "a union is narrowed by its first part": _combined_by_first,
    },
    "what select_related brings along": JOINS,
    "keys with gaps, and inserts": ABSENT,
    "what is not there, and inserts": ABSENT | {
        "what is empty depends on nothing": _no_membership
    },
    "upserts": {"an upsert is an insert": _upsert_is_an_insert},
    "raw SQL": {"a write begins with a word of DML": _six_keywords},
    "what on_delete does": {
        "keys that become NULL are no writes": _writes_lose(_of_null),
        "fast deletes are none": _writes_lose(_of_fast_delete),
    },
    "transactions with savepoints": {
        "own writes are not told from what is committed": _own_writes_unseen,
        "a savepoint's rollback forgets the rest": _savepoints_forget,
        "tags are published with the statement": _published_at_the_statement,
    },
}  # fmt: skip
