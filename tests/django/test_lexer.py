"""What raw SQL is taken for. The rule: a write is never taken for a read, nor for a smaller one."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zoocache.contrib.django.lexer import Effect, Kind, effect_of, last_part

READ, WRITE, UNKNOWN = Kind.READ, Kind.WRITE, Kind.UNKNOWN
NOTHING: frozenset[str] = frozenset()

READS = [
    "SELECT 1",
    "  select * from city;",
    "(SELECT 1) UNION (SELECT 2)",
    "SELECT 'INSERT INTO city' AS text",
    "SELECT 'it''s an UPDATE' FROM city",
    "SELECT 1 -- DELETE FROM city",
    "SELECT 1 /* DELETE FROM city */ + 1",
    'SELECT "a""b" FROM "it\'s" WHERE x = \'y\'',
    "WITH x AS (SELECT 1) SELECT * FROM x",
    "VALUES (1), (2)",
    "SELECT * FROM city FOR UPDATE",
    "SELECT * FROM city FOR NO KEY UPDATE SKIP LOCKED",
    "SELECT updated, deleted_at, insert_count FROM city",
    "SELECT x FROM city WHERE y LIKE '%\\_%'",
    "SELECT data #> '{a}' FROM city",
    "SELECT ARRAY['a', 'b']",
    "SELECT $1",
    "EXPLAIN SELECT 1",
    "EXPLAIN DELETE FROM city",
    "ROLLBACK TO SAVEPOINT a",
    "SHOW search_path",
    "PRAGMA foreign_keys = ON",
    "PRAGMA table_info('city')",
    "PRAGMA journal_mode",
    "SET CONSTRAINTS ALL IMMEDIATE",
    "SET FOREIGN_KEY_CHECKS = 0",
    "SET LOCAL statement_timeout = '5s'",
    "",
    "-- nothing at all",
]


@pytest.mark.parametrize("sql", READS)
def test_reads(sql: str) -> None:
    assert effect_of(sql) == Effect(READ)


@pytest.mark.parametrize(
    ("sql", "savepoint"),
    [
        ("SAVEPOINT a", "SAVEPOINT"),
        ("savepoint a", "SAVEPOINT"),
        ('RELEASE SAVEPOINT "s1_x1"', "RELEASE"),
        ("RELEASE a", "RELEASE"),
    ],
)
def test_savepoints(sql: str, savepoint: str) -> None:
    assert effect_of(sql) == Effect(READ, savepoint=savepoint)


WRITES = [
    ("INSERT INTO city VALUES (1)", ["city"]),
    ("insert into city(id) values (1)", ["city"]),
    ("INSERT OR REPLACE INTO city VALUES (1)", ["city"]),
    ("INSERT IGNORE INTO city VALUES (1)", ["city"]),
    ("INSERT INTO city SELECT * FROM town JOIN x USING (id)", ["city"]),
    ("INSERT INTO city VALUES (1) ON CONFLICT (id) DO UPDATE SET a = 1", ["city"]),
    ("INSERT INTO city VALUES (1) ON DUPLICATE KEY UPDATE a = 1", ["city"]),
    ("REPLACE INTO city VALUES (1)", ["city"]),
    ("UPDATE city SET a = 'b, c'", ["city"]),
    ("UPDATE city SET a = 1, b = 2", ["city"]),
    ("UPDATE OR IGNORE city SET a = 1", ["city"]),
    ("UPDATE ONLY city SET a = 1", ["city"]),
    ('UPDATE "public"."City" SET a = 1', ["City"]),
    ('UPDATE "it""s" SET a = 1', ['it"s']),
    ("UPDATE `my db`.`city` SET a = 1", ["city"]),
    ("UPDATE [city] SET a = 1", ["city"]),
    ("UPDATE public . city SET a = 1", ["city"]),
    ("UPDATE/**/city/**/SET a = 1", ["city"]),
    ("/* app:shop */ UPDATE city SET a = 1 -- route", ["city"]),
    ("UPDATE ciudades_ñ SET a = 1", ["ciudades_ñ"]),
    ("UPDATE city😀 SET a = 1", ["city😀"]),
    ("DELETE FROM city", ["city"]),
    ("DELETE FROM ONLY city WHERE a IN (SELECT b FROM c)", ["city"]),
    ("DELETE FROM city WHERE a = 'x' RETURNING *", ["city"]),
    ("WITH x AS (DELETE FROM a RETURNING *) INSERT INTO b SELECT * FROM x", ["a", "b"]),
    ("WITH x AS (SELECT 1) UPDATE city SET a = 1", ["city"]),
    ("(WITH x AS (DELETE FROM a RETURNING *) SELECT * FROM x)", ["a"]),
]


@pytest.mark.parametrize(("sql", "tables"), WRITES)
def test_writes_name_their_tables(sql: str, tables: list[str]) -> None:
    effect = effect_of(sql)
    assert (effect.kind, effect.tables, effect.session) == (WRITE, frozenset(tables), False)
    assert effect.returning is ("RETURNING" in sql)


UNKNOWNS = [
    "TRUNCATE city",
    "DROP TABLE city",
    "ALTER TABLE city ADD a int",
    "CREATE INDEX a ON city (b)",
    "COPY city FROM STDIN",
    "CALL cleanup()",
    "DO $$ BEGIN DELETE FROM city; END $$",
    "EXECUTE prepared",
    "PREPARE p AS DELETE FROM city",
    "LOAD DATA INFILE 'x' INTO TABLE city",
    "VACUUM",
    "REFRESH MATERIALIZED VIEW v",
    "SELECT * INTO city FROM town",
    "SELECT 1; DELETE FROM city",
    "BEGIN; DELETE FROM city",
    "EXPLAIN ANALYZE DELETE FROM city",
    "EXPLAIN (ANALYZE, BUFFERS) DELETE FROM city",
    "ANALYZE FORMAT=JSON DELETE FROM city",
    "MERGE INTO city USING town ON (a = b) WHEN MATCHED THEN DELETE",
    "COMMIT PREPARED 'x'",
    "PREPARE TRANSACTION 'x'",
    "XA COMMIT 'x'",
    # Targets that are not where they seem to be.
    "INSERT city VALUES (1)",
    "REPLACE city VALUES (1)",
    "UPDATE LOW_PRIORITY city SET a = 1",
    "UPDATE IGNORE city SET a = 1",
    "UPDATE ONLY (city) SET a = 1",
    "DELETE FROM ONLY (city)",
    "DELETE QUICK FROM city",
    "UPDATE city, town SET a = 1",
    "UPDATE city AS c, town AS t SET t.a = 1",
    "UPDATE city c JOIN town t USING (id) SET t.a = 1",
    "DELETE a FROM a JOIN b",
    "DELETE FROM a USING b",
    "DELETE FROM 'city' WHERE id = 1",  # SQLite takes a string for a name
    "UPDATE 'city' SET a = 1",
    "UPDATE city * SET a = 1",
    # What the dialects read differently.
    "/*! DELETE FROM city */",
    "/*M! DELETE FROM city */",
    "/* \\ */ DELETE FROM city",
    "-- it's #1\nDELETE FROM city",
    "# a comment\nDELETE FROM city",
    "/* /* */ ' */ DELETE FROM city -- '",
    "SELECT 1--1 INTO OUTFILE 'x'",
    "WITH x AS (SELECT 1--1 AS a) DELETE FROM city",
    "WITH [a'] AS (SELECT 1) DELETE FROM city WHERE x = ''",
    "WITH x AS (SELECT 1 AS a$q$) DELETE FROM city WHERE b$q$ = 1",
    "WITH a AS (SELECT '\\') DELETE FROM city -- ')",
    "WITH a AS (SELECT 1) --\rDELETE FROM city, town USING x",
    "{call cleanup}",
    "@cleanup",
    "no sql at all",
]


@pytest.mark.parametrize("sql", UNKNOWNS)
def test_what_is_not_understood_writes_to_everything(sql: str) -> None:
    assert effect_of(sql).kind is UNKNOWN


@pytest.mark.parametrize("sql", ["BEGIN", "BEGIN IMMEDIATE", "START TRANSACTION", "/* x */ begin;"])
def test_beginnings_of_transactions(sql: str) -> None:
    assert effect_of(sql) == Effect(READ, begins=True)


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("COMMIT", Kind.COMMIT),
        ("commit;", Kind.COMMIT),
        ("END TRANSACTION", Kind.COMMIT),
        ("ROLLBACK", Kind.ROLLBACK),
        ("ABORT", Kind.ROLLBACK),
        ("/* x */ COMMIT", Kind.COMMIT),
    ],
)
def test_ends_of_transactions(sql: str, kind: Kind) -> None:
    assert effect_of(sql) == Effect(kind)


SESSIONS = [
    "SET search_path TO tenant",
    "set role admin;",
    "SET SESSION AUTHORIZATION x",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET TRANSACTION SNAPSHOT 'x'",
    "BEGIN ISOLATION LEVEL SERIALIZABLE",
    "RESET ALL",
    "DISCARD ALL",
    "USE other",
    "ATTACH DATABASE 'x' AS y",
    "PRAGMA case_sensitive_like = ON",
    "PRAGMA reverse_unordered_selects(1)",
    "SELECT set_config('search_path', 'x', false)",
    "SELECT pg_catalog.set_config ('search_path', 'x', false)",
    "SELECT \"set_config\"('search_path', 'x', false)",
    "WITH x AS (SELECT set_config('a', 'b', false)) SELECT * FROM x",
    "SELECT 1; SET search_path TO x",
    "SET statement_timeout = 5; SET search_path TO x",
    "SET ROLE update_team",
    "/* # */ SET search_path TO x",
    "SET search_path TO 'a\\b'",
    "DO $$ BEGIN SET search_path TO x; END $$",
    "CREATE FUNCTION f() RETURNS int AS $$ SELECT 1 $$ LANGUAGE sql; SET search_path TO x",
]


@pytest.mark.parametrize("sql", SESSIONS)
def test_statements_that_change_the_session(sql: str) -> None:
    assert effect_of(sql).session


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE city SET a = 'x\\y'",
        "ALTER TABLE city ALTER a SET DEFAULT 1",
        "CREATE FUNCTION f() RETURNS trigger AS $$ BEGIN UPDATE a SET b = 1; END $$ LANGUAGE x",
        "SELECT id FROM city USE INDEX (a)",
        "INSERT INTO city VALUES ('SET search_path TO x; SET ROLE y')",
    ],
)
def test_statements_that_do_not(sql: str) -> None:
    assert not effect_of(sql).session


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("city", "city"),
        ('"public"."City"', "City"),
        ('a."b.c"', "b.c"),
        ('"a""b"', 'a"b'),
        ("`x`.`a``b`", "a`b"),
        ("[dbo].[my city]", "my city"),
        ('public"."city', "city"),
    ],
)
def test_last_part_of_a_name(name: str, table: str) -> None:
    assert last_part(name) == table


# A write wrapped in whatever is between statements, strings and comments in some dialect.

TRICKS = [
    "'", "''", '"', '""', "`", "\\", "\\'", "--", "-- ", "#", "/*", "*/", "/*!", "/*+", "$$", "$a$",
    "[", "]", "\n", "\r", "\r\n", " ", "\t", "\xa0", "(", ")", ",", "1", "x", "E'", "U&'", "N'",
    "FOR UPDATE", "DO UPDATE SET", "KEY UPDATE",
]  # fmt: skip
HEADS = ["", "SELECT 1", "WITH x AS (SELECT 1)", "VALUES (1)", "EXPLAIN", "PRAGMA x", "SET x", "("]
noise = st.lists(st.sampled_from(TRICKS), max_size=6).map("".join)


def hidden_by(sql: str, target: str, *, nested: bool, backslash: bool, hashes: bool) -> bool:
    """Does a dialect take the target for a part of a string or comment? A plain scanner."""
    at, word = 0, sql.index(target)
    while at < word:
        rest = sql[at:]
        if rest.startswith("/*"):
            depth, at = 1, at + 2
            while depth and at < len(sql):
                if nested and sql.startswith("/*", at):
                    depth, at = depth + 1, at + 2
                elif sql.startswith("*/", at):
                    depth, at = depth - 1, at + 2
                else:
                    at += 1
        elif rest.startswith("--") and (not hashes or rest[2:3] in ("", " ", "\n", "\t", "\r")):
            ends = [i for i in (sql.find("\n", at), sql.find("\r", at) if nested else -1) if i > 0]
            at = min(ends, default=len(sql))
        elif rest[0] == "#" and hashes:
            at = sql.find("\n", at) if "\n" in rest else len(sql)
        elif rest[0] in "'\"`":
            quote, at = rest[0], at + 1
            escapes = backslash and quote != "`"
            while at < len(sql):
                if (escapes and sql[at] == "\\") or sql.startswith(quote * 2, at):
                    at += 2
                elif sql[at] == quote:
                    at += 1
                    break
                else:
                    at += 1
        else:
            at += 1
    return at != word


DIALECTS = [
    {"nested": True, "backslash": False, "hashes": False},  # PostgreSQL
    {"nested": False, "backslash": False, "hashes": False},  # SQLite
    {"nested": False, "backslash": True, "hashes": True},  # MySQL
    {"nested": False, "backslash": False, "hashes": True},  # MySQL, NO_BACKSLASH_ESCAPES
]


@settings(max_examples=2000, deadline=None)
@given(head=st.sampled_from(HEADS), before=noise, between=noise, after=noise)
@example(head="SELECT 1", before="--1 '", between=" ", after="'")
@example(head="WITH x AS (SELECT 1)", before="/*/**/'*/", between=" ", after="'")
def test_no_trick_of_quoting_hides_a_write(
    head: str, before: str, between: str, after: str
) -> None:
    target = "DELETE FROM city"
    sql = f"{head} {before} {between} {target} {after}"
    if all(hidden_by(sql, target, **dialect) for dialect in DIALECTS):
        return
    effect = effect_of(sql)
    if effect.kind is WRITE:
        assert effect.tables >= {"city"}
    elif effect.kind is READ:  # an EXPLAIN that does not execute
        assert head == "EXPLAIN"
    else:
        assert effect.kind is UNKNOWN


@settings(max_examples=500, deadline=None)
@given(noise)
def test_no_trick_hides_a_change_of_session(before: str) -> None:
    target = "SET search_path TO x"
    sql = f"SELECT 1; {before} ; {target}"
    if not all(hidden_by(sql, target, **dialect) for dialect in DIALECTS):
        assert effect_of(sql).session


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="'\"`-/*#$[]\\ \nab;", max_size=4000))
def test_any_text_has_an_effect(sql: str) -> None:
    assert isinstance(effect_of(sql), Effect)
