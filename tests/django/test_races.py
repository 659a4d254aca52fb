"""Two connections, stopped at named points: no interleaving leaves a stale row behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from conftest import Worker
from django.db import connections, transaction
from shop import routing, stock
from shop.models import Category, Product, Tag
from shop.reads import cached, outcome, plain
from shop.routing import atomic
from shop.stock import name_of, rename

import zoocache
from zoocache import points

Elsewhere = Callable[[Callable[[], Any]], Any]
Queries = Callable[..., Any]


def raw(statement: str) -> None:
    with connections[routing.active].cursor() as cursor:
        cursor.execute(statement)


@pytest.fixture
def wal(sqlite: Any) -> Any:
    stock.fill()
    return sqlite


READS: dict[str, Callable[[Callable[[Any], Any]], Any]] = {
    "row": lambda M: M(Product).get(pk=1),
    "list": lambda M: list(M(Product).order_by("pk")),
    "category": lambda M: list(M(Product).filter(category=2).order_by("pk")),
    "joined": lambda M: list(M(Product).select_related("category").filter(pk=1)),
    "count": lambda M: M(Product).filter(name__startswith="product").count(),
    "prefetch": lambda M: list(M(Category).prefetch_related("product_set__tags")),
    "absent": lambda M: list(M(Product).filter(pk=999)),
}


def _in_atomic() -> None:
    with atomic():
        rename("atomic")
        Category.objects.filter(pk=2).update(name="atomic")


WRITES: dict[str, Callable[[], Any]] = {
    "save": lambda: rename("saved"),
    "update": lambda: Product.objects.update(name="updated"),
    "create": lambda: Product.objects.create(pk=999, name="product new", category_id=2),
    "bulk": lambda: Product.objects.bulk_create([Product(name="product bulk", category_id=2)]),
    "category": lambda: Category.objects.filter(pk=2).update(name="renamed"),
    "tags": lambda: Product.objects.get(pk=1).tags.clear(),
    "raw": lambda: raw("UPDATE shop_product SET name = 'raw'"),
    "unknown": lambda: (
        raw("UPDATE shop_product SET name = 'x'; UPDATE shop_tag SET name = 'y'")
        if routing.active == "pg"
        else raw("/* # */ UPDATE shop_product SET name = 'x'")
    ),
    "atomic": _in_atomic,
    "delete": lambda: Product.objects.filter(pk=1).delete(),
}


@pytest.mark.parametrize("point", ["fill:stamped", "fill:read"])
@pytest.mark.parametrize("read", READS)
def test_a_fill_that_began_before_a_write_is_never_served_after_it(
    read: str, point: str, shop: Any, evidence: Callable[..., None]
) -> None:
    for write in WRITES.values():
        zoocache.clear()
        filler = Worker(lambda: outcome(READS[read], cached), pause_at=point)
        write()
        filler.result()
        expected = outcome(READS[read], plain)
        assert outcome(READS[read], cached) == expected
        assert outcome(READS[read], cached) == expected


@pytest.mark.parametrize("write", ["save", "update", "raw", "delete"])
def test_a_write_that_has_not_committed_is_seen_by_nobody_else(
    write: str, shop: Any, elsewhere: Elsewhere, queries: Queries
) -> None:
    """Promise 22, with fills on both sides of the commit."""
    before = outcome(READS["list"], plain)
    with atomic():
        WRITES[write]()
        own = outcome(READS["list"], cached)
        assert own == outcome(READS["list"], plain) != before
        for _ in range(2):
            assert elsewhere(lambda: outcome(READS["list"], cached)) == before
        assert outcome(READS["list"], cached) == own
    for _ in range(2):
        assert elsewhere(lambda: outcome(READS["list"], cached)) == own
        assert outcome(READS["list"], cached) == own


@pytest.mark.parametrize("isolation", ["default", "REPEATABLE_READ"])
def test_what_a_transaction_reads_is_not_served_after_another_commit(
    isolation: str, shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its snapshot may be older than the statement: SQLite, REPEATABLE READ."""
    if isolation == "REPEATABLE_READ":
        if shop.vendor == "sqlite":
            pytest.skip("SQLite has one isolation level")
        options: dict[str, Any] = {"isolation_level": "repeatable read"}
        if shop.vendor == "postgresql":
            from psycopg import IsolationLevel

            options = {"isolation_level": IsolationLevel.REPEATABLE_READ}
        monkeypatch.setitem(shop.settings_dict, "OPTIONS", options)
        shop.close()

    def work() -> tuple[str, str]:
        with atomic():
            list(Tag.objects.all())
            points.reach("snapshot")
            return name_of(), name_of(1, "objects")

    reader = Worker(work, pause_at="snapshot")
    rename("new")
    inside, uncached = reader.result()
    assert inside == uncached
    assert name_of() == name_of() == "new"


def test_what_a_function_reads_in_an_old_snapshot_is_not_served(wal: Any) -> None:
    @zoocache.cacheable(deps=["Product:1"])
    def name() -> str:
        return name_of(1, "objects")

    def work() -> str:
        with atomic():
            list(Tag.objects.all())
            points.reach("snapshot")
            return name()

    reader = Worker(work, pause_at="snapshot")
    rename("new")
    assert reader.result() == "product 1"
    assert name() == "new"


def test_a_raw_transaction_of_several_statements_in_one(postgres: Any) -> None:
    """A snapshot that begins within a statement that is not understood."""
    stock.fill()

    def work() -> str:
        raw("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM shop_tag")
        points.reach("snapshot")
        seen = name_of()
        raw("COMMIT")
        return seen

    reader = Worker(work, pause_at="snapshot")
    rename("new")
    assert reader.result() == "product 1"
    assert name_of() == "new"


# On SQLite an unfinished SELECT holds the snapshot of the whole connection.


@contextmanager
def _unfinished_iterator() -> Iterator[None]:
    rows = Tag.objects.order_by("pk").iterator(chunk_size=1)
    next(rows)
    yield
    rows.close()


@contextmanager
def _unfinished_raw() -> Iterator[None]:
    cursor = connections[routing.active].cursor()
    cursor.execute("SELECT * FROM shop_tag")
    cursor.fetchone()
    yield
    cursor.close()


@contextmanager
def _unfinished_rawqueryset() -> Iterator[None]:
    rows = iter(Tag.objects.raw("SELECT * FROM shop_tag"))
    next(rows)
    yield
    del rows


@pytest.mark.parametrize("pin", [_unfinished_iterator, _unfinished_raw, _unfinished_rawqueryset])
def test_fills_under_an_unfinished_select_are_not_stored(
    pin: Callable[[], Any], wal: Any, elsewhere: Elsewhere, queries: Queries
) -> None:
    @zoocache.cacheable()
    def name() -> str:
        return name_of()

    with pin():
        elsewhere(lambda: rename("new"))
        # This connection still sees the old row, or not: what it sees is not for others.
        assert name_of() == name_of(1, "objects")
        assert name() == name_of(1, "objects")
        elsewhere(lambda: rename("newer"))
        assert elsewhere(name_of) == "newer"
    wal.close()
    assert elsewhere(name_of) == name_of() == "newer"
    assert elsewhere(name) == name() == "newer"
    with queries(0):
        name_of()


# On SQLite a statement with RETURNING is committed when its rows were fetched.


def _fetch_all(cursor: Any) -> None:
    cursor.fetchall()


def _fetch_one_by_one(cursor: Any) -> None:
    while cursor.fetchone():
        pass


def _fetch_many(cursor: Any) -> None:
    while cursor.fetchmany(1):
        pass


def _iterate(cursor: Any) -> None:
    for _ in cursor:
        pass


def _close(cursor: Any) -> None:
    cursor.close()


def _leave(cursor: Any) -> None:
    with cursor:
        cursor.fetchone()


def _use_again(cursor: Any) -> None:
    cursor.execute("SELECT 1")


ENDS = [_fetch_all, _fetch_one_by_one, _fetch_many, _iterate, _close, _leave, _use_again]
RETURNING = "UPDATE shop_product SET name = 'new' RETURNING id"


@pytest.mark.parametrize("journal", ["sqlite", "rollback"])
@pytest.mark.parametrize("end", [*ENDS, "drop"])
def test_raw_returning(
    end: Any, journal: str, request: pytest.FixtureRequest, elsewhere: Elsewhere
) -> None:
    connection = request.getfixturevalue(journal)
    stock.fill()
    assert name_of() == "product 1"
    cursor = connection.cursor()
    cursor.execute(RETURNING)
    between = elsewhere(name_of)  # it may fill
    Worker(name_of).result()
    with connection.cursor() as another:  # the next statement ends nothing
        another.execute("SELECT 1")
        another.fetchall()
    assert elsewhere(name_of) == between
    if end == "drop":
        del cursor
    else:
        end(cursor)
    expected = elsewhere(lambda: name_of(1, "objects"))
    assert expected == "new"
    assert elsewhere(name_of) == expected
    assert name_of() == expected


def test_an_orm_write_beside_an_unfinished_returning(wal: Any, elsewhere: Elsewhere) -> None:
    """It is not committed either before that has ended."""
    Category.cached.get(pk=1)
    cursor = wal.cursor()
    cursor.execute("INSERT INTO shop_tag (name) VALUES ('a'), ('b') RETURNING id")
    Category.objects.filter(pk=1).update(name="new")
    elsewhere(lambda: Category.cached.get(pk=1))
    cursor.close()
    expected = elsewhere(lambda: Category.objects.get(pk=1).name)
    assert expected == "new"
    assert elsewhere(lambda: Category.cached.get(pk=1).name) == expected


# Findings 5 and 6: transactions that Django does not know of.


def test_a_hit_in_a_transaction_is_not_newer_than_its_snapshot(
    wal: Any, elsewhere: Elsewhere
) -> None:
    with transaction.atomic():
        list(Tag.objects.all())
        elsewhere(lambda: (rename("new"), name_of()))
        assert name_of() == name_of(1, "objects")
    assert name_of() == "new"


def test_a_raw_begin(shop: Any, elsewhere: Elsewhere) -> None:
    raw("BEGIN")
    rename("new")
    assert name_of() == "new"
    assert elsewhere(name_of) == "product 1"
    assert elsewhere(name_of) == "product 1"
    raw("COMMIT")
    assert elsewhere(name_of) == name_of() == "new"


def test_a_raw_rollback(shop: Any, elsewhere: Elsewhere, queries: Queries) -> None:
    elsewhere(name_of)
    raw("BEGIN")
    rename("new")
    assert name_of() == "new"
    raw("ROLLBACK")
    # MySQL's driver does not tell whether a write was its own COMMIT.
    with queries(1 if shop.vendor == "mysql" else 0):
        assert name_of() == "product 1"


def test_a_raw_savepoint_is_a_transaction_to_sqlite(wal: Any, elsewhere: Elsewhere) -> None:
    name_of()
    raw("SAVEPOINT a")
    rename("new")
    assert elsewhere(name_of) == "product 1"
    raw("RELEASE a")
    # Nothing else runs on this connection.
    assert elsewhere(name_of) == "new"


def test_switching_autocommit_on_commits(wal: Any, elsewhere: Elsewhere) -> None:
    name_of()
    transaction.set_autocommit(False)
    try:
        rename("new")
        assert elsewhere(name_of) == "product 1"
    finally:
        transaction.set_autocommit(True)
    assert elsewhere(lambda: name_of(1, "objects")) == "new"
    assert elsewhere(name_of) == "new"


def test_a_connection_closed_in_a_transaction(shop: Any, elsewhere: Elsewhere) -> None:
    with pytest.raises(Exception), atomic():  # noqa: B017, PT011, PT012
        rename("never")
        shop.close()
        name_of()
    assert name_of() == elsewhere(name_of) == "product 1"


def test_a_script_ends_the_transaction(wal: Any, elsewhere: Elsewhere) -> None:
    name_of()
    with wal.cursor() as cursor:
        cursor.executescript("BEGIN; UPDATE shop_product SET name = 'new'; COMMIT")
        assert elsewhere(name_of) == "new"
    assert name_of() == "new"


def test_copy_is_seen(postgres: Any, elsewhere: Elsewhere) -> None:
    stock.fill()
    number = Tag.cached.count()
    with postgres.cursor() as cursor:
        with cursor.copy("COPY shop_tag (name) FROM STDIN") as copy:
            copy.write_row(("copied",))
            assert elsewhere(Tag.cached.count) == number
        assert elsewhere(Tag.cached.count) == number + 1
    assert Tag.cached.count() == number + 1


def test_stream_is_seen(postgres: Any, elsewhere: Elsewhere) -> None:
    stock.fill()
    name_of()
    with postgres.cursor() as cursor:
        for _ in cursor.stream(RETURNING):
            elsewhere(name_of)
    assert elsewhere(name_of) == name_of() == "new"


# In a pipeline of psycopg's a statement has perhaps not been sent when `execute` returns.


def _piped_update() -> None:
    Product.objects.filter(pk=1).update(name="new")


def _piped_raw() -> None:
    raw("UPDATE shop_product SET name = 'new' WHERE id = 1")


def _piped_transaction() -> None:
    with atomic():
        Product.objects.filter(pk=2).update(name="new")
        raw("UPDATE shop_product SET name = 'new' WHERE id = 1")


def _piped_rollback() -> None:
    with suppress(LookupError), atomic():
        raw("UPDATE shop_product SET name = 'never' WHERE id = 1")
        raise LookupError


def _piped_and_synchronized() -> None:
    connection = connections[routing.active].connection
    with connection.pipeline() as pipeline:
        raw("UPDATE shop_product SET name = 'new' WHERE id = 1")
        pipeline.sync()


PIPED = {
    _piped_update: "new",
    _piped_raw: "new",
    _piped_transaction: "new",
    _piped_rollback: "product 1",
    _piped_and_synchronized: "new",
}


@pytest.mark.parametrize("reads", [False, True])
@pytest.mark.parametrize("write", PIPED)
def test_a_pipeline(
    write: Callable[[], None], reads: bool, postgres: Any, elsewhere: Elsewhere, queries: Queries
) -> None:
    stock.fill()
    postgres.ensure_connection()
    with postgres.connection.pipeline():
        assert elsewhere(name_of) == "product 1"
        write()
        for _ in range(2):
            assert elsewhere(name_of) == elsewhere(lambda: name_of(1, "objects"))
        if reads:
            assert name_of() == name_of(1, "objects") == PIPED[write]
    # Nothing else runs on this connection.
    assert elsewhere(name_of) == elsewhere(lambda: name_of(1, "objects")) == PIPED[write]
    assert elsewhere(lambda: name_of(2)) == elsewhere(lambda: name_of(2, "objects"))
    with queries(0):
        assert name_of() == PIPED[write]
    rename("newer")
    assert elsewhere(name_of) == "newer"


def test_a_pipeline_that_fails(postgres: Any, elsewhere: Elsewhere, queries: Queries) -> None:
    stock.fill()
    elsewhere(name_of)
    with pytest.raises(Exception, match="zero"), postgres.connection.pipeline():  # noqa: PT012
        raw("UPDATE shop_product SET name = 'never' WHERE id = 1")
        elsewhere(name_of)
        raw("SELECT 1 / 0")
    assert elsewhere(name_of) == elsewhere(lambda: name_of(1, "objects")) == "product 1"
    with queries(0):
        name_of()


def test_a_two_phase_commit(postgres: Any, elsewhere: Elsewhere) -> None:
    with postgres.cursor() as cursor:
        cursor.execute("SHOW max_prepared_transactions")
        if cursor.fetchone()[0] == "0":
            pytest.skip("the server allows no prepared transactions: max_prepared_transactions")
    stock.fill()
    raw("BEGIN")
    rename("new")
    raw("PREPARE TRANSACTION 'shop'")
    assert elsewhere(name_of) == "product 1"
    elsewhere(lambda: raw("COMMIT PREPARED 'shop'"))
    assert elsewhere(name_of) == name_of() == "new"


# The session decides what a query sees.


@pytest.fixture
def tenant(postgres: Any) -> Iterator[Any]:
    stock.fill()
    raw("CREATE SCHEMA tenant; CREATE TABLE tenant.shop_tag AS SELECT * FROM shop_tag")
    raw("UPDATE tenant.shop_tag SET name = 'of the tenant'")
    yield postgres
    postgres.close()
    raw("DROP SCHEMA tenant CASCADE")


@pytest.mark.parametrize(
    "statement",
    [
        "SET search_path TO tenant",
        "SET LOCAL search_path TO tenant",
        "SELECT set_config('search_path', 'tenant', false)",
        "SELECT 1; SET search_path TO tenant",
        "DO $$ BEGIN SET search_path TO tenant; END $$",
        "/* it's # */ SET search_path TO tenant",
    ],
)
def test_a_session_that_sees_other_rows_bypasses_the_cache(
    statement: str, tenant: Any, elsewhere: Elsewhere, queries: Queries
) -> None:
    def tag() -> str:
        return Tag.cached.get(pk=1).name

    @zoocache.cacheable()
    def function() -> str:
        return tag()

    tenant.close()
    assert tag() == "new"
    with atomic():
        raw(statement)
        for _ in range(2):
            with queries(1):
                assert tag() == "of the tenant"
        assert function() == "of the tenant"
    assert elsewhere(tag) == "new"
    assert elsewhere(function) == "new"
    tenant.close()
    assert tag() == "new"
    with queries(0):
        assert tag() == "new"


def test_a_receiver_that_sets_the_session_up_bypasses_the_cache(
    tenant: Any, elsewhere: Elsewhere
) -> None:
    from django.db.backends.signals import connection_created

    def set_up(connection: Any, **kwargs: Any) -> None:
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET search_path TO tenant")

    tenant.close()
    assert elsewhere(lambda: Tag.cached.get(pk=1).name) == "new"
    connection_created.connect(set_up)
    try:
        for _ in range(2):
            assert elsewhere(lambda: Tag.objects.get(pk=1).name) == "of the tenant"
            list(Tag.objects.all())
            assert Tag.cached.get(pk=1).name == "of the tenant"
            tenant.close()
    finally:
        connection_created.disconnect(set_up)


# Uncommitted reads in functions, also when the function runs in another thread.


def test_uncommitted_rows_get_into_no_function_result(shop: Any, elsewhere: Elsewhere) -> None:
    @zoocache.cacheable(deps=["Product:1"])
    def plain_name() -> str:
        return name_of(1, "objects")

    @zoocache.cacheable(deps=["Product:1"])
    async def async_name() -> str:
        return await sync_to_async(name_of)(1, "objects")

    @zoocache.cacheable()
    def outer() -> str:
        return plain_name()

    with pytest.raises(LookupError), atomic():  # noqa: PT012
        rename("never")
        assert plain_name() == "never"
        assert outer() == "never"
        assert async_to_sync(async_name)() == "never"
        raise LookupError
    assert plain_name() == outer() == async_to_sync(async_name)() == "product 1"
    assert elsewhere(plain_name) == elsewhere(outer) == "product 1"


def test_a_function_that_rolls_back_what_it_reads(shop: Any) -> None:
    @zoocache.cacheable(deps=["Product:1"])
    def name() -> str:
        with atomic():
            rename("never")
            seen = name_of(1, "objects")
            transaction.set_rollback(True, using=routing.active)
            return seen

    assert name() == "never"

    @zoocache.cacheable(deps=["Product:1"])
    def quiet() -> str:
        return name_of(1, "objects")

    assert quiet() == "product 1"


def test_a_function_that_began_before_a_write(shop: Any) -> None:
    @zoocache.cacheable()
    def name() -> str:
        seen = name_of()
        points.reach("computed")
        return seen

    filler = Worker(name, pause_at="computed")
    rename("new")
    assert filler.result() == "product 1"
    assert name() == "new"


def test_an_invalidation_in_a_transaction_is_repeated_at_its_commit(
    shop: Any, elsewhere: Elsewhere
) -> None:
    @zoocache.cacheable(deps=["report"])
    def report() -> str:
        return name_of(1, "objects")

    report()
    with atomic():
        rename("new")
        zoocache.invalidate("report")
        assert elsewhere(report) == "product 1"
    assert elsewhere(report) == "new"
    with atomic():
        rename("newer")
        zoocache.clear()
        assert elsewhere(report) == "new"
    assert elsewhere(report) == "newer"
