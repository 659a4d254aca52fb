"""What a raw SQL statement may do to the data, found without a parser.

A scan for the targets of writes over the whole text (several statements, or
the parts of a CTE, may follow one another). What it does not understand counts
as a write to everything: a needless miss, never a stale row.
"""

from __future__ import annotations

import enum
import re
from functools import lru_cache
from typing import NamedTuple


class Kind(enum.Enum):
    READ = enum.auto()
    WRITE = enum.auto()
    """Writes to the named tables only."""
    UNKNOWN = enum.auto()
    """May write to any table."""
    COMMIT = enum.auto()
    ROLLBACK = enum.auto()
    SESSION = enum.auto()
    """Changes what later statements of the connection see (search_path, role, database)."""


class Effect(NamedTuple):
    kind: Kind
    tables: frozenset[str] = frozenset()


_READ = Effect(Kind.READ)
_UNKNOWN = Effect(Kind.UNKNOWN)

# Strings, comments and dollar quotes hold no SQL and are cut out; quoted names
# are matched so that nothing inside them is taken for the start of one, and
# kept. /*! ... */ is code to MySQL. Locking clauses are no writes.
_NOISE = re.compile(
    r"""(?P<name>"(?:[^"]|"")*" | `(?:[^`]|``)*`)
        | '(?:[^']|'')*' | --[^\n]* | /\*(?![!M]).*?\*/ | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$
        | \bFOR\s+(?:NO\s+KEY\s+)?UPDATE\b""",
    re.DOTALL | re.VERBOSE | re.IGNORECASE,
)
# The dialects disagree about these inside and around strings: nothing is cut out then.
_AMBIGUOUS = re.compile(r"[\\#]")

_NAME = r'(?:"(?:[^"]|"")+"|`(?:[^`]|``)+`|\[[^\]]+\]|[\w$]+)'
_TARGET = re.compile(
    rf"""\b(?: INSERT (?:\s+(?:OR\s+\w+|IGNORE|LOW_PRIORITY|HIGH_PRIORITY|DELAYED))* \s+INTO
             | REPLACE (?:\s+(?:LOW_PRIORITY|DELAYED))? \s+INTO
             | MERGE \s+INTO
             | UPDATE (?:\s+OR\s+\w+)? (?:\s+ONLY)?
             | DELETE \s+FROM (?:\s+ONLY)?
        ) \s+ (?P<name>{_NAME}(?:\s*\.\s*{_NAME})*) (?P<list>\s*,)?""",
    re.VERBOSE | re.IGNORECASE,
)
# An upsert's own update names no table.
_UPSERT = re.compile(r"\b(?:DO|KEY)\s+UPDATE\b", re.IGNORECASE)
_WRITE = re.compile(r"\b(?:INSERT|UPDATE|DELETE|REPLACE\s+INTO|MERGE)\b", re.IGNORECASE)
_INTO = re.compile(r"\bINTO\b", re.IGNORECASE)
_SEVERAL_TABLES = re.compile(r"\b(?:JOIN|USING)\b", re.IGNORECASE)
_SET_CONFIG = re.compile(r"\bSET_CONFIG\s*\(", re.IGNORECASE)

_QUERIES = frozenset(["SELECT", "WITH", "VALUES"])
_STATEMENTS = frozenset(["INSERT", "REPLACE", "MERGE", "UPDATE", "DELETE", "WITH"])
_HARMLESS = frozenset([
    "SHOW", "DESCRIBE", "DESC", "SAVEPOINT", "RELEASE", "BEGIN", "START", "PRAGMA", "FETCH",
    "MOVE", "DECLARE", "CLOSE", "LISTEN", "UNLISTEN", "NOTIFY", "ANALYZE", "CHECKPOINT",
])  # fmt: skip
_SESSION = frozenset(["SET", "RESET", "USE", "ATTACH", "DETACH", "DISCARD"])


@lru_cache(maxsize=512)
def effect_of(sql: str) -> Effect:
    """What the statement may do: a matter of its text, not of its parameters."""
    text = sql
    if not _AMBIGUOUS.search(sql):
        text = _NOISE.sub(lambda match: match["name"] or " ", sql)
    text = text.strip().rstrip(";").strip()
    first = re.match(r"[\s(]*(\w+)", text)
    word = first[1].upper() if first else ""
    if ";" in text:
        return _UNKNOWN
    if word in ("COMMIT", "END"):
        return Effect(Kind.COMMIT)
    if word in ("ROLLBACK", "ABORT"):
        # ROLLBACK TO: what was written before the savepoint is still there.
        return _READ if re.search(r"\bTO\b", text, re.IGNORECASE) else Effect(Kind.ROLLBACK)
    if word in _SESSION:
        harmless = re.match(r"SET\s+CONSTRAINTS\b", text, re.IGNORECASE)
        return _READ if harmless else Effect(Kind.SESSION)
    if word in _QUERIES and _SET_CONFIG.search(text):
        return Effect(Kind.SESSION)
    if not word or word in _HARMLESS:
        return _READ
    if word in _QUERIES and not _WRITE.search(text) and not _INTO.search(text):
        return _READ
    if word == "EXPLAIN" and not re.search(r"\bANALY[ZS]E\b", text, re.IGNORECASE):
        return _READ
    return _targets(text) if word in _STATEMENTS else _UNKNOWN


def _targets(text: str) -> Effect:
    text = _UPSERT.sub(" ", text)
    targets = list(_TARGET.finditer(text))
    named_all = len(targets) == len(_WRITE.findall(text)) > 0
    if not named_all or any(target["list"] for target in targets):
        return _UNKNOWN
    if _SEVERAL_TABLES.search(text) and not re.match(r"[\s(]*(?:INSERT|REPLACE)\b", text, re.I):
        return _UNKNOWN
    return Effect(Kind.WRITE, frozenset(last_part(target["name"]) for target in targets))


def last_part(name: str) -> str:
    """The table of a qualified name in any quoting: "public"."City" is City."""
    part: str = (re.findall(_NAME, name) or [name])[-1]
    if part[0] == '"':
        return part[1:-1].replace('""', '"')
    if part[0] == "`":
        return part[1:-1].replace("``", "`")
    return part[1:-1] if part[0] == "[" else part
