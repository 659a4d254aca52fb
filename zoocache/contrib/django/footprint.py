"""What a SELECT reads: recorded while Django compiles it, not guessed from its tree.

Everything that gets into the SQL passes through `SQLCompiler.compile` and
`SQLCompiler.get_from_clause`, also for subqueries, combined queries and joins
that appear only while compiling (ordering, select_related). A second
compilation with compilers that take notes therefore sees every table and every
expression. An expression of a class that is not known to be deterministic makes
the query uncacheable.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from django.db.models import DateField, TimeField, expressions
from django.db.models.aggregates import Aggregate
from django.db.models.functions import Cast
from django.db.models.sql import compiler as sql_compiler
from django.db.models.sql import query as sql_query
from django.db.models.sql import subqueries
from django.db.models.sql.datastructures import BaseTable, Join

from zoocache.contrib.django.registry import perhaps_views

# Modules whose classes give the same result for the same rows, parameters and
# time zone, and the exceptions in them. A subclass of the user's lives elsewhere.
_KNOWN_MODULES = frozenset(
    [
        "django.contrib.postgres.aggregates.general",
        "django.contrib.postgres.aggregates.statistics",
        "django.contrib.postgres.expressions",
        "django.contrib.postgres.fields.array",
        "django.contrib.postgres.fields.hstore",
        "django.contrib.postgres.fields.ranges",
        "django.contrib.postgres.lookups",
        "django.db.models.aggregates",
        "django.db.models.expressions",
        "django.db.models.fields.json",
        "django.db.models.fields.related_lookups",
        "django.db.models.fields.tuple_lookups",
        "django.db.models.functions.comparison",
        "django.db.models.functions.datetime",
        "django.db.models.functions.json",
        "django.db.models.functions.math",
        "django.db.models.functions.text",
        "django.db.models.functions.window",
        "django.db.models.lookups",
        "django.db.models.sql.where",
    ]
)
_UNKNOWN_NAMES = frozenset(
    [
        "Func",  # any function of the database, by name
        "RawSQL",
        "Now",
        "Random",
        "DatabaseDefault",
        "ExtraWhere",
        # Of PostgreSQL: they depend on settings of the session, or on a dictionary.
        "SearchLookup",
        "TrigramSimilar",
        "TrigramStrictWordSimilar",
        "TrigramWordSimilar",
        "Unaccent",
    ]
)
# Arguments by which an expression of a known class becomes SQL of the user's.
_OWN_SQL = frozenset(["function", "template", "arg_joiner"])
# Dates to PostgreSQL, other ones every day, whatever the expression around them.
_MOVING_DATES = re.compile(r"\b(?:now|today|tomorrow|yesterday)\b", re.IGNORECASE)
_OPERATORS = frozenset(["+", "-", "*", "/", "^", "%%", "&", "|", "<<", ">>", "#"])
_KNOWN_CLASSES = frozenset(
    [
        BaseTable,
        Join,
        sql_query.Query,
        subqueries.AggregateQuery,
        getattr(sql_compiler, "PositionRef", BaseTable),  # from Django 5 on: ORDER BY 2
    ]
)
# Django adds these columns itself when it prefetches over a many-to-many relation.
_PREFETCH = "_prefetch_related_val_"


@cache
def _is_known(kind: type) -> bool:
    if kind in _KNOWN_CLASSES:
        return True
    return (kind.__module__ in _KNOWN_MODULES and kind.__name__ not in _UNKNOWN_NAMES) or (
        kind.__name__ == "FilteredRelation" and kind.__module__.startswith("django.db.models.")
    )


# What django.contrib.postgres makes of a list.
_ARRAY = {"function": "ARRAY", "template": "%(function)s[%(expressions)s]"}


def _is_array(node: Any) -> bool:
    return type(node) is expressions.Func and node.extra == _ARRAY


def _is_time(field: Any) -> bool:
    """Is it one of dates or times, perhaps in an array or a range?"""
    return isinstance(field, (DateField, TimeField)) or (
        hasattr(field, "base_field") and _is_time(field.base_field)
    )


def _has_own_sql(node: Any) -> bool:
    if type(node) is Cast and _is_time(node.output_field):
        # The texts 'now' and 'today' are dates to a database.
        source = node.get_source_expressions()[0]
        return type(source) is not expressions.Col or not _is_time(source.output_field)
    if type(node) is expressions.Col:
        return not _has_plain_format(type(node.target))  # type: ignore[arg-type]
    if isinstance(node, expressions.CombinedExpression) and node.connector not in _OPERATORS:
        return True
    if not _OWN_SQL.isdisjoint(getattr(node, "extra", None) or ()):
        return True
    own = getattr(node, "__dict__", {}).get("template")  # where Django 6.1 keeps a subquery's
    return own is not None and own != type(node).template


@cache
def _has_plain_format(field_class: type[Any]) -> bool:
    return str(field_class.select_format.__module__).startswith("django.")


class Footprint:
    """Tables, with how often each occurs, and whether all of the statement is understood."""

    def __init__(self) -> None:
        self.tables: Counter[str] = Counter()
        self.refused = ""  # why the statement cannot be cached
        self.has_window = False

    @property
    def cacheable(self) -> bool:
        return not self.refused

    def refuse(self, reason: str) -> None:
        self.refused = self.refused or reason

    def note(self, node: Any, query: Any) -> None:
        kind = type(node)
        if kind is expressions.RawSQL:
            own = {
                sql for name, (sql, _) in query.extra_select.items() if name.startswith(_PREFETCH)
            }
            if node.sql not in own:
                self.refuse("raw SQL is in it")
        elif not _is_array(node) and (not _is_known(kind) or _has_own_sql(node)):  # type: ignore[arg-type]
            self.refuse(f"{kind.__module__}.{kind.__qualname__} is not known to be deterministic")
        elif kind is expressions.Window:
            self.has_window = True
        if isinstance(node, Aggregate) and node.filter is not None:
            self.note(node.filter, query)  # rendered past `compile`

    def note_from(self, query: Any) -> None:
        if query.select_for_update:
            self.refuse("it locks rows")
        for alias, source in query.alias_map.items():
            if not query.alias_refcount[alias]:
                continue
            if type(source) in (BaseTable, Join):
                self.tables[source.table_name] += 1
            else:
                self.refuse(f"it reads from a {type(source).__qualname__}")
        if query.extra_tables:
            self.refuse("extra() names tables")


class _Recording:
    """Mixed into a backend's compiler class."""

    footprint: Footprint
    query: Any

    def compile(self, node: Any) -> Any:
        self.footprint.note(node, self.query)
        return super().compile(node)  # type: ignore[misc]

    def get_from_clause(self) -> Any:
        clause = super().get_from_clause()  # type: ignore[misc]
        self.footprint.note_from(self.query)
        return clause


@cache
def _recording_class(compiler_class: type) -> Any:
    return type("Recording" + compiler_class.__name__, (_Recording, compiler_class), {})


@contextmanager
def _recording(connection: Any) -> Iterator[Footprint]:
    # A connection belongs to one thread, so nobody else meets the shadowed method.
    footprint = Footprint()
    plain = connection.ops.compiler

    def recording(name: str) -> Any:
        def make(*args: Any, **kwargs: Any) -> Any:
            compiler = _recording_class(plain(name))(*args, **kwargs)
            compiler.footprint = footprint
            return compiler

        return make

    connection.ops.compiler = recording
    try:
        yield footprint
    finally:
        del connection.ops.compiler


def twin_of(compiler: Any) -> Any:
    """Another compiler of the same statement: compiling changes compilers, and their queries."""
    query = compiler.query.clone()
    if getattr(query, "selected", None):  # Django 5.2: clones share it, and compiling adds to it
        query.selected = {**query.selected}
    twin = query.get_compiler(connection=compiler.connection, elide_empty=compiler.elide_empty)
    twin.using = compiler.using
    return twin


def footprint_of(compiler: Any, sql: str, params: Any) -> Footprint:
    """The footprint of the statement that a compiler gave, by compiling it again."""
    with _recording(compiler.connection) as footprint:
        again = twin_of(compiler)
        try:
            sql_again, params_again = again.as_sql()
        except Exception:
            footprint.refuse("it cannot be compiled twice")
            return footprint
    # A Query class of somebody's own may bring compilers that take no notes.
    recorded = isinstance(again, _Recording) and type(again.query) in _KNOWN_CLASSES
    moving = any(isinstance(param, str) and _MOVING_DATES.search(param) for param in params)
    if moving:
        footprint.refuse("a parameter is a date that moves, like 'today'")
    if not recorded:
        footprint.refuse(f"{type(again.query).__qualname__} is a query class of somebody's own")
    if sql_again != sql or plain(params_again) != plain(params):
        footprint.refuse("it compiles to other SQL each time")
    if not footprint.tables:
        footprint.refuse("it reads no table")
    if perhaps_views(footprint.tables):
        footprint.refuse("it reads from an unmanaged model, which may be a view")
    return footprint


def plain(params: Any) -> tuple[Any, ...]:
    """Parameters in a form that can be stored and compared."""
    return tuple(map(_plain, params))


def _plain(param: Any) -> Any:
    # psycopg has classes of its own for some.
    kind = type(param)
    if kind.__module__ == "psycopg.types.numeric" and isinstance(param, int):
        return (kind.__name__, int(param))
    if kind.__module__ == "psycopg.types.json" and param.dumps:
        return (kind.__name__, param.dumps(param.obj))
    return param
