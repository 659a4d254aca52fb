"""What the fuzzers share: a small stock of rows, and the comparison of cached with uncached reads.

Run again with ZOOCACHE_TEST_SEED=... to repeat a run, ZOOCACHE_TEST_EXAMPLES=... for a longer one.
"""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any

from django.core.management.color import no_style
from django.db import DatabaseError, connections, transaction
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from shop import routing
from shop.models import Category, Product, Store, Tag
from shop.reads import Read, cached, outcome, plain

import zoocache

SEED = int(os.environ.get("ZOOCACHE_TEST_SEED") or random.SystemRandom().randrange(2**32))
EXAMPLES = int(os.environ.get("ZOOCACHE_TEST_EXAMPLES") or 120)

Write = Callable[[], Any]

_WRITES = re.compile(r"\s*(?!SELECT|SAVEPOINT|RELEASE|ROLLBACK|BEGIN|COMMIT)", re.IGNORECASE)

EMPTIED = (
    "visit", "remark", "exhibit", "product_tags", "book", "detail", "product", "category", "store",
    "tag", "brand",
)  # fmt: skip


class Stale(AssertionError):
    """A read that did not give what the database holds."""


class Undone(Exception):
    """Rolls a block back."""


def atomic() -> Any:
    return transaction.atomic(using=routing.active)


def sql(statement: str, params: Sequence[Any] = ()) -> None:
    with connections[routing.active].cursor() as cursor:
        cursor.execute(statement, params)


def vendor() -> str:
    return connections[routing.active].vendor


# Rows

FILLED = [Category, Store, Tag, Product]
stocks = st.sampled_from([None, 0, 1, 2, 3])
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "category_id": st.sampled_from([1, 1, 1, 2, None]),
            "store_id": st.sampled_from([1, 2, None]),
            "active": st.booleans(),
            "stock": stocks,
            "name": st.sampled_from(["a", "b"]),
        }
    ),
    min_size=4,
    max_size=5,
)

_next = [0]


def next_key() -> int:
    """The key that the database will give to the next product."""
    return _next[0]


def fill(rows: list[dict[str, Any]]) -> None:
    """Products 1 to len(rows) of categories 1 to 3; those in stock are related to the first."""
    with atomic():
        for table, key in (("product", "related_id"), ("category", "parent_id")):
            sql(f"UPDATE shop_{table} SET {key} = NULL")  # MariaDB looks at each row by itself
        for table in EMPTIED:
            sql(f"DELETE FROM shop_{table}")
        Category.objects.bulk_create(
            Category(pk=i, name="abc"[i - 1], rank=i, parent_id=1 if i == 2 else None)
            for i in (1, 2, 3)
        )
        Store.objects.bulk_create(Store(pk=i, name="xy"[i - 1]) for i in (1, 2))
        Tag.objects.bulk_create([Tag(pk=1, name="red"), Tag(pk=2, name="new")])
        Product.objects.bulk_create(
            Product(pk=number, **{**row, "related_id": None}) for number, row in enumerate(rows, 1)
        )
        Product.objects.filter(pk__gt=1, stock__gt=0).update(related=1)
        # On PostgreSQL rows with keys of their own leave the sequence where it is.
        for statement in connections[routing.active].ops.sequence_reset_sql(no_style(), FILLED):
            sql(statement)
        last = Product.objects.create(name="last")
        _next[0] = last.pk + 1
        Product.objects.filter(pk=last.pk)._raw_delete(routing.active)


# Writes, one after another or in transactions


class Block:
    """Writes in a transaction, or in a savepoint of one, which ends well or is undone."""

    def __init__(self, parts: list[Any], commits: bool, how: str = "atomic") -> None:
        self.parts, self.commits, self.how = parts, commits, how

    def __repr__(self) -> str:
        return f"Block({self.parts}, {self.commits}, {self.how!r})"

    def run(self, look: Callable[[], None]) -> None:
        how = "atomic" if connections[routing.active].in_atomic_block else self.how
        # An error ends a transaction of PostgreSQL's, unless there is a savepoint before it.
        act = run if how == "atomic" else _attempt
        try:
            with _TRANSACTIONS[how]():
                for part in self.parts:
                    act(part, look)
                    look()
                if not self.commits:
                    raise Undone
        except Undone:
            pass


@contextmanager
def _by_hand() -> Iterator[None]:
    sql("BEGIN")
    try:
        yield
    except BaseException:
        sql("ROLLBACK")
        raise
    sql("COMMIT")


@contextmanager
def _no_autocommit() -> Iterator[None]:
    transaction.set_autocommit(False, using=routing.active)
    try:
        yield
        transaction.commit(using=routing.active)
    finally:
        transaction.rollback(using=routing.active)
        transaction.set_autocommit(True, using=routing.active)


_TRANSACTIONS: dict[str, Callable[[], Any]] = {
    "atomic": atomic,
    "raw": _by_hand,
    "no autocommit": _no_autocommit,
}


def run(write: Any, look: Callable[[], None]) -> None:
    """Runs a write or a block. What the database refuses must leave no trace in the cache."""
    savepoint = atomic if connections[routing.active].in_atomic_block else nullcontext
    try:
        with savepoint():
            _attempt(write, look)
    except (DatabaseError, ValueError):
        pass  # a reference to what is not there, an unset key


def _attempt(write: Any, look: Callable[[], None]) -> None:
    if isinstance(write, Block):
        write.run(look)
    else:
        write()


# The comparison


def _sql_of(read: Read) -> list[str]:
    with CaptureQueriesContext(connections[routing.active]) as captured:
        outcome(read, plain)
    return [query["sql"] for query in captured]


class Fuzz:
    """Compares, and counts what it saw."""

    def __init__(self, *, elsewhere: bool = False) -> None:
        self.figures: Counter[str] = Counter()
        self._elsewhere = ThreadPoolExecutor(1) if elsewhere else None
        self._asked = self._wrote = 0

    def example(
        self, rows: Any, reads: list[Read], writes: Iterable[Any], more: Callable[[], Any]
    ) -> None:
        fill(rows)
        more()
        zoocache.clear()
        self.figures["examples"] += 1
        before = [self._compare(read, "when filled") for read in reads]
        for write in writes:
            wrote = self._wrote
            run(write, lambda: self._look(reads))
            if self._wrote == wrote:
                continue  # it found no row to change, and says nothing
            for place, read in enumerate(reads):
                expected = self._compare(read, "after a write")
                self.figures["changed"] += expected != before[place]
                before[place] = expected

    def _look(self, reads: list[Read]) -> None:
        """In the midst of a transaction: what it sees itself, and what others see."""
        for read in reads:
            self._compare(read, "in a transaction")
            if self._elsewhere is not None:
                self._elsewhere.submit(self._compare_elsewhere, read).result()

    def _compare_elsewhere(self, read: Read) -> None:
        expected, got = outcome(read, plain), outcome(read, cached)
        if got != expected:
            raise Stale(f"to others in a transaction: expected {expected}, got {got}")

    def _compare(self, read: Read, when: str) -> Any:
        start = self._asked
        expected = outcome(read, plain)
        between = self._asked
        got = outcome(read, cached)
        if got != expected:
            raise Stale(f"{when}, seed {SEED}: {_sql_of(read)}\nexpected {expected}\ngot {got}")
        if when == "after a write":
            self.figures["reads_after_a_write"] += 1
            # Not the hits of the statistics: a read may be several queries.
            self.figures["kept"] += self._asked == between > start
        return expected

    def _count(self, execute: Callable[..., Any], statement: str, *args: Any) -> Any:
        self._asked += 1
        self._wrote += _WRITES.match(statement) is not None
        return execute(statement, *args)

    def play(
        self,
        reads: st.SearchStrategy[list[Read]],
        writes: st.SearchStrategy[list[Any]],
        examples: int,
        *,
        more: Callable[[], Any] = lambda: None,
        seed_of: str = "",
        shrink: bool = True,
    ) -> None:
        """Runs the examples; raises Stale for the first read that is."""
        phases = [Phase.generate, *([Phase.shrink] if shrink else [])]

        @seed(f"{SEED} {seed_of}")
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=phases,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )
        @given(ROWS, reads, writes)
        def one(rows: Any, some_reads: list[Read], some_writes: list[Any]) -> None:
            self.example(rows, some_reads, some_writes, more)

        with connections[routing.active].execute_wrapper(self._count):
            one()

    def close(self) -> None:
        if self._elsewhere is not None:
            self._elsewhere.submit(connections.close_all).result()
            self._elsewhere.shutdown()
