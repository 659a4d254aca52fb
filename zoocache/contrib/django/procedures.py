"""Functions and procedures of the database that write, as ZOOCACHE["PROCEDURES"] declares them.

Nobody can see what they do. A call by CALL or `callproc` counts as a write to everything unless
it is declared, and one within a SELECT as none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from zoocache.contrib.django.lexer import Effect, Kind, last_part
from zoocache.contrib.django.options import options

_QUOTES = '["`\\]]?'


def with_declared(
    declared: Mapping[str, frozenset[str]], effect: Effect, text: str, *, narrow: bool
) -> Effect:
    """What a raw statement does, with what the declared functions that it names write.

    `narrow`: a CALL of one of them writes nothing else.
    """
    found = _named_in(text, tuple(declared))
    if not found:
        return effect
    tables = frozenset(table for name in found for table in declared[name])
    if effect.kind is Kind.UNKNOWN and narrow and _is_call(text):
        return effect._replace(kind=Kind.WRITE, tables=tables, rows=True)
    if effect.kind in (Kind.READ, Kind.WRITE):
        rows = effect.rows or effect.kind is Kind.READ
        return effect._replace(kind=Kind.WRITE, tables=effect.tables | tables, rows=rows)
    return effect


def tables_of(name: object) -> Iterable[str] | None:
    """The tables that a procedure writes; None, which is any, unless it is declared."""
    declared = options().procedures
    return declared.get(last_part(str(name)).lower()) if declared else None


def _named_in(text: str, names: tuple[str, ...]) -> set[str]:
    """Also in a string or a comment: an invalidation too many does no harm."""
    return {name.lower() for name in _calls_of(names).findall(text)}


@lru_cache(maxsize=8)
def _calls_of(names: tuple[str, ...]) -> re.Pattern[str]:
    any_of = "|".join(map(re.escape, names))
    return re.compile(rf"(?<![\w$])({any_of}){_QUOTES}\s*\(", re.IGNORECASE)


def _is_call(text: str) -> bool:
    """Is it one CALL, and nothing behind it?"""
    return re.match(r"\s*CALL\b[^;$\\#]*;?\s*$", text, re.IGNORECASE) is not None
