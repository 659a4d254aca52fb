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


class Effect(NamedTuple):
    kind: Kind
    tables: frozenset[str] = frozenset()
    session: bool = False
    """May it change what later statements of the connection see (search_path, role, database)?"""
    returning: bool = False
    """Does a write give rows, which must perhaps be fetched before it is committed?"""
    begins: bool = False
    """Does it begin a transaction?"""
    savepoint: str = ""
    """SAVEPOINT or RELEASE, which begin and end a transaction of SQLite's if no other is open."""
    rows: bool = False
    """Does a write read, too, by a function that it calls?"""


# Strings and comments hold no SQL and are cut out; quoted names are matched so
# that nothing inside them is taken for the start of one, and kept. Locking
# clauses are no writes.
_NOISE = re.compile(
    r"""(?P<name>"(?:[^"]|"")*" | `(?:[^`]|``)*`)
        | (?P<string>'(?:[^']|'')*') | --(?=[ \t\r\n]|$)[^\r\n]* | /\*.*?\*/
        | \bFOR\s+(?:NO\s+KEY\s+)?UPDATE\b""",
    re.DOTALL | re.VERBOSE | re.IGNORECASE,
)
# The dialects disagree where these begin and end strings, names and comments:
# escapes, # comments, [names] with quotes in them, dollar quotes, comments that
# are code to MySQL, a comment in a comment.
_AMBIGUOUS = re.compile(
    r"""[\\\#] | \[[^\]]*['"`] | \$(?!\d) | /\*(?:M?!|[^*]*(?:\*(?!/)[^*]*)*/\*)""", re.VERBOSE
)
# And these, if they are left over: something unfinished, a -- that may be two signs.
_LEFT_OVER = re.compile(r"""['"`] | /\* | \*/ | --""", re.VERBOSE)

_NAME = r'(?:"(?:[^"]|"")+"|`(?:[^`]|``)+`|\[[^\]]+\]|(?:[\w$]|[^\x00-\x7F])+)'
_TARGET = re.compile(
    rf"""\b(?: INSERT (?:\s+(?:OR\s+\w+|IGNORE|LOW_PRIORITY|HIGH_PRIORITY|DELAYED))* \s+INTO
             | REPLACE (?:\s+(?:LOW_PRIORITY|DELAYED))? \s+INTO
             | UPDATE (?:\s+OR\s+\w+)? (?:\s+ONLY)?
             | DELETE \s+FROM (?:\s+ONLY)?
        ) \s+ (?P<name>{_NAME}(?:\s*\.\s*{_NAME})*) (?P<more>\s*[,(*])?""",
    re.VERBOSE | re.IGNORECASE,
)
# Words that may follow in a target's place without being its name.
_MODIFIERS = frozenset(["ONLY", "LOW_PRIORITY", "HIGH_PRIORITY", "DELAYED", "QUICK", "IGNORE"])
# An upsert's own update names no table.
_UPSERT = re.compile(
    r"\bON\s+DUPLICATE\s+KEY\s+UPDATE\b | \bDO\s+UPDATE\s+SET\b", re.VERBOSE | re.IGNORECASE
)
_WRITE = re.compile(
    r"\b(?:INSERT(?:\s+OR\s+REPLACE)?|UPDATE|DELETE|REPLACE\s+INTO|MERGE)\b", re.IGNORECASE
)
_INTO = re.compile(r"\bINTO\b", re.IGNORECASE)
_SEVERAL_TABLES = re.compile(
    r"\b(?:JOIN|USING)\b | \bUPDATE\b(?:(?!\bSET\b).)*,", re.VERBOSE | re.IGNORECASE | re.DOTALL
)
_SESSION = re.compile(r"\b(?:SET|RESET|USE|ATTACH|DETACH|DISCARD)\b", re.IGNORECASE)
_SET_CONFIG = re.compile(r"\bSET_CONFIG\b", re.IGNORECASE)
_BODY = re.compile(r"\$(\w*)\$.*?\$\1\$", re.DOTALL)
_HARMLESS_SET = re.compile(
    r"""SET\s+ (?:(?:SESSION|LOCAL)\s+)? (?: CONSTRAINTS | FOREIGN_KEY_CHECKS | APPLICATION_NAME
        | (?:STATEMENT|LOCK|IDLE_IN_TRANSACTION_SESSION|IDLE_SESSION)_TIMEOUT )\b""",
    re.VERBOSE | re.IGNORECASE,
)

_QUERIES = frozenset(["SELECT", "WITH", "VALUES"])
_STATEMENTS = frozenset(["INSERT", "REPLACE", "UPDATE", "DELETE", "WITH"])
_EXPLAINS = frozenset(["EXPLAIN", "DESCRIBE", "DESC"])
_HARMLESS = frozenset([
    "SHOW", "DESCRIBE", "DESC", "BEGIN", "START", "FETCH", "MOVE", "DECLARE", "CLOSE", "LISTEN",
    "UNLISTEN", "NOTIFY", "ANALYZE", "CHECKPOINT",
])  # fmt: skip
_SESSION_WORDS = frozenset(["SET", "RESET", "USE", "ATTACH", "DETACH", "DISCARD"])
# Of SQLite; any other one may change what queries return (case_sensitive_like).
_HARMLESS_PRAGMA = re.compile(
    r"""PRAGMA\s+ (?:\w+\s*\.\s*)? (?: \w+ \s*$ | (?:
        foreign_key\w* | defer_foreign_keys | table_\w+ | index_\w+ | journal_\w+ | synchronous
        | cache_\w+ | mmap_size | temp_store | busy_timeout | wal_\w+ | optimize | \w+_check
        | auto_vacuum | incremental_vacuum | secure_delete | analysis_limit | threads | user_version
        )\b )""",
    re.VERBOSE | re.IGNORECASE,
)
_READ = Effect(Kind.READ)


@lru_cache(maxsize=512)
def effect_of(sql: str) -> Effect:
    """What the statement may do: a matter of its text, not of its parameters."""
    if not _AMBIGUOUS.search(sql):
        text = _NOISE.sub(lambda cut: cut["name"] or ("''" if cut["string"] else " "), sql)
        if not _LEFT_OVER.search(_NOISE.sub(" ", text)):
            return _effect_of_clear(text.strip().rstrip(";").strip())
    return _effect_of_unclear(sql)


def _effect_of_unclear(sql: str) -> Effect:
    """Where it is not sure what is a string: a read if not even a string speaks of writing."""
    word = _first_word(sql)
    session = _SET_CONFIG.search(sql) is not None
    if word == "CREATE":  # what the body of a function says is not run now
        session = session or any(_sets(part) for part in _BODY.sub(" ", sql).split(";"))
    elif ";" in sql or word not in _QUERIES | _STATEMENTS:
        session = session or not word or _SESSION.search(sql) is not None
    writes = _WRITE.search(sql) or _INTO.search(sql) or ";" in sql
    if word in _QUERIES and not writes:
        return Effect(Kind.READ, session=session)
    return Effect(Kind.UNKNOWN, session=session, returning=True)


def _effect_of_clear(text: str) -> Effect:
    if not text:
        return _READ
    word = _first_word(text)
    session = not word or _SET_CONFIG.search(text) is not None or any(map(_sets, text.split(";")))
    unknown = Effect(Kind.UNKNOWN, session=session, returning=True)
    writes = _WRITE.search(text) is not None
    speaks_of_writing = writes and word not in _STATEMENTS | _QUERIES | _EXPLAINS
    if ";" in text or not word or speaks_of_writing:  # MariaDB: SET STATEMENT ... FOR DELETE ...
        return unknown
    if word in ("COMMIT", "END"):
        # Another session may have written what was prepared.
        prepared = re.search(r"\bPREPARED\b", text, re.IGNORECASE)
        return unknown if prepared else Effect(Kind.COMMIT)
    if word in ("ROLLBACK", "ABORT"):
        # ROLLBACK TO: what was written before the savepoint is still there.
        partial = re.search(r"\b(?:TO|PREPARED)\b", text, re.IGNORECASE)
        return _READ if partial else Effect(Kind.ROLLBACK)
    if word in _SESSION_WORDS:
        return Effect(Kind.READ, session=session)
    if word == "PRAGMA":
        return Effect(Kind.READ, session=not _HARMLESS_PRAGMA.match(text))
    if word in ("SAVEPOINT", "RELEASE"):
        return Effect(Kind.READ, savepoint=word)
    if word in ("BEGIN", "START"):
        serializable = re.search(r"\bSERIALIZABLE\b", text, re.IGNORECASE)
        return Effect(Kind.READ, session=serializable is not None, begins=True)
    if (word in _HARMLESS or word in _QUERIES) and not writes and not _INTO.search(text):
        return Effect(Kind.READ, session=session)
    if word in _EXPLAINS and not re.search(r"\bANALY[ZS]E\b", text, re.I):
        return _READ
    return (_targets(text, session) or unknown) if word in _STATEMENTS else unknown


def _sets(statement: str) -> bool:
    statement = statement.strip()
    return _first_word(statement) in _SESSION_WORDS and not _HARMLESS_SET.match(statement)


def _first_word(text: str) -> str:
    first = re.match(r"[\s(]*(\w+)", text)
    return first[1].upper() if first else ""


def _targets(text: str, session: bool) -> Effect | None:
    returning = re.search(r"\bRETURNING\b", text, re.IGNORECASE) is not None
    text = _UPSERT.sub(" ", text)
    targets = list(_TARGET.finditer(text))
    if not len(targets) == len(_WRITE.findall(text)) > 0:
        return None
    for target in targets:
        is_insert = target[0][0] in "iIrR"
        if target["more"] and not (is_insert and target["more"].strip() == "("):
            return None
        if target["name"].upper() in _MODIFIERS:
            return None
    if _SEVERAL_TABLES.search(text) and not re.match(r"[\s(]*(?:INSERT|REPLACE)\b", text, re.I):
        return None
    tables = frozenset(last_part(target["name"]) for target in targets)
    return Effect(Kind.WRITE, tables, session, returning)


def last_part(name: str) -> str:
    """The table of a qualified name in any quoting: "public"."City" is City."""
    part: str = (re.findall(_NAME, name) or [name])[-1]
    if part[0] == '"':
        return part[1:-1].replace('""', '"')
    if part[0] == "`":
        return part[1:-1].replace("``", "`")
    return part[1:-1] if part[0] == "[" else part
