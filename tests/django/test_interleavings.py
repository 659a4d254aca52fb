"""A reader and a writer on connections of their own, in every order of their steps.

Reads stop where they have taken their stamp and where they have read; writes where they are
announced and where they are committed. After each step a third one compares what it is served with
the database, and at the end all do.

    reader                  writer
    [first statement]
    stamp taken             announced
    read                    committed
    end                     end
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
from django.core.management.color import no_style
from django.db import connections, transaction
from schedules import Actor, Stage, schedules
from shop import routing
from shop.models import Category, Product, Tag

import zoocache
from zoocache import points, store
from zoocache.contrib.django.connection import ConnectionState
from zoocache.contrib.django.snapshots import snapshot
from zoocache.contrib.django.written import Written

Work = Callable[[], Any]
Manager = Callable[[Any], Any]


def atomic() -> Any:
    return transaction.atomic(using=routing.active)


def sql(statement: str, *params: object) -> None:
    with connections[routing.active].cursor() as cursor:
        cursor.execute(statement, params)


def cached(model: Any) -> Any:
    return model.cached


def plain(model: Any) -> Any:
    return model.objects


# What is read, and what is written


class Case(NamedTuple):
    """`write(n)` changes what `read(M)` gives; `read` and `other` differ in their SQL only."""

    read: Callable[[Manager], Any]
    other: Callable[[Manager], Any]
    write: Callable[[int], Any]


def _names(queryset: Any) -> list[Any]:
    return [(p.pk, p.name, p.category_id) for p in queryset]


def _of_category(category: int, order: str) -> Callable[[Manager], Any]:
    return lambda M: _names(M(Product).filter(category=category).order_by(order))


def _joined(M: Manager, **how: Any) -> Any:
    return [p.category.name for p in M(Product).select_related("category").filter(**how)]


def _prefetched(M: Manager, order: str) -> Any:
    categories = M(Category).prefetch_related("product_set").order_by(order)
    return [_names(category.product_set.all()) for category in categories]


def _save_partly(n: int) -> None:
    product = Product.objects.only("name").get(pk=1)
    product.name = f"n{n}"
    product.save()


_next = [0]


def _find_next() -> None:
    """Notes the key that the next product gets."""
    _next[0] = Product.objects.latest("pk").pk + 1


CASES: dict[str, Case] = {
    "a row": Case(
        lambda M: _names(M(Product).filter(pk=1)),
        lambda M: M(Product).get(pk=1).name,
        lambda n: Product.objects.filter(pk=1).update(name=f"n{n}"),
    ),
    "a row that enters and leaves a list": Case(
        _of_category(1, "pk"),
        _of_category(1, "-pk"),
        lambda n: Product.objects.filter(pk=1).update(category=1 + n % 2),
    ),
    "a row of a list, partly": Case(
        _of_category(2, "pk"), lambda M: M(Product).filter(category=2, name="n1").count(),
        _save_partly,
    ),
    "a row that is not there": Case(
        lambda M: _names(M(Product).filter(pk__in=[1, 100])),
        lambda M: M(Product).filter(pk=100).exists(),
        lambda n: (
            Product.objects.create(pk=100, name="n")
            if n % 2
            else Product.objects.filter(pk=100).delete()
        ),
    ),
    "a row whose key nobody knows yet": Case(
        lambda M: _names(M(Product).filter(pk=_next[0])),
        lambda M: M(Product).filter(pk__in=[1, _next[0]]).count(),
        lambda n: Product.objects.create(name=f"n{n}"),
    ),
    "a joined row": Case(
        lambda M: _joined(M, pk=2), lambda M: _joined(M, pk__in=[2, 3]),
        lambda n: Category.objects.filter(pk=1).update(name=f"n{n}"),
    ),
    "prefetched rows": Case(
        lambda M: _prefetched(M, "pk"), lambda M: _prefetched(M, "-pk"),
        lambda n: Product.objects.filter(pk=3).update(category=1 + n % 2),
    ),
    "many to many": Case(
        lambda M: _names(M(Product).filter(tags=1)),
        lambda M: M(Product).filter(tags__pk=1).count(),
        lambda n: Product(pk=1).tags.add(1) if n % 2 else Product(pk=1).tags.remove(1),
    ),
}  # fmt: skip


@pytest.fixture(params=["sqlite", "rollback", "postgres", "mariadb"])
def rows(request: pytest.FixtureRequest) -> Any:
    connection = request.getfixturevalue(request.param)
    for pk in (1, 2):
        Category.objects.create(pk=pk, name=f"category {pk}")
    Tag.objects.create(pk=1, name="tag")
    for pk in (1, 2, 3):
        Product.objects.create(pk=pk, name=f"product {pk}", category_id=1 if pk > 1 else 2)
    Product.objects.create(pk=199, name="the last")
    for statement in connection.ops.sequence_reset_sql(no_style(), [Product]):
        sql(statement)
    return connection


# How they do it


def _without(read: Work) -> Any:
    return read()


def _in_atomic(read: Work) -> Any:
    with atomic():
        list(Tag.objects.all())
        points.reach("begun")
        return read()


def _in_snapshot(read: Work) -> Any:
    with snapshot(using=routing.active):
        points.reach("begun")
        return read()


READERS: dict[str, Callable[[Work], Any]] = {
    "autocommit": _without,
    "atomic": _in_atomic,
    "snapshot": _in_snapshot,
}


@contextmanager
def _by_hand() -> Iterator[None]:
    sql("BEGIN")
    yield
    sql("COMMIT")


@contextmanager
def _no_autocommit() -> Iterator[None]:
    transaction.set_autocommit(False, using=routing.active)
    yield
    transaction.commit(using=routing.active)
    transaction.set_autocommit(True, using=routing.active)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


WRITERS: dict[str, Callable[[], Any]] = {
    "autocommit": _nothing,
    "atomic": atomic,
    "raw": _by_hand,
    "no autocommit": _no_autocommit,
}


# All orders

READING = ["begun", *["fill:stamped", "fill:read"] * 2]  # twice: a prefetch
WRITING = ["commit:announced", "commit:done"]


class Differs(AssertionError):
    """Somebody was served what the database does not hold."""


class Play:
    """One reader, one writer, and the test itself, which watches."""

    def __init__(self, stage: Stage, case: Case, reader: str, writer: str) -> None:
        self.stage, self.case = stage, case
        self._how_to_read, self._how_to_write = READERS[reader], WRITERS[writer]
        # Two reads of one transaction agree, whatever has been committed in between.
        self._agrees = reader == "snapshot" or routing.active in ("default", "other")
        self._waits_for_nobody = reader != "autocommit"
        self._agrees = self._agrees and self._waits_for_nobody
        self.figures: Counter[str] = Counter()

    def _read(self) -> None:
        got, expected = self._how_to_read(lambda: (self.case.read(cached), self.case.read(plain)))
        if self._agrees and got != expected:
            raise Differs(f"in one transaction: expected {expected}, got {got}")

    def _write(self, n: int) -> None:
        with self._how_to_write():
            self.case.write(n)
        if self._waits_for_nobody:  # else the reader may be computing just that
            self.case.read(cached)

    def steps(self) -> tuple[int, int]:
        """How many steps each of them takes, alone."""
        _find_next()
        zoocache.clear()
        for actor in (self.stage.reader, self.stage.writer):  # to connect is no part of it
            actor.do(lambda: connections[routing.active].ensure_connection())
        reading = self._count(self.stage.reader, self._read, READING)
        return reading, self._count(self.stage.writer, lambda: self._write(1), WRITING)

    def _count(self, actor: Actor, work: Work, stops: list[str]) -> int:
        steps = 0
        actor.begin(work, stops)
        while actor.at:
            actor.step()
            steps += 1
        actor.result()
        return steps

    def run(self, n: int, schedule: str, watched: bool) -> None:
        _find_next()
        zoocache.clear()
        self._compare(self.case.other)
        reader, writer = self.stage.reader, self.stage.writer
        reader.begin(self._read, READING)
        writer.begin(lambda: self._write(n), WRITING)
        for letter in schedule:
            (reader if letter == "r" else writer).step()
            if watched:
                self._compare(self.case.other)
        reader.result(), writer.result()
        for read in (self.case.read, self.case.other):
            for _ in range(2):
                self._compare(read)
            self._compare(read, reader.do)
        self.figures["schedules"] += 1

    def _compare(
        self, read: Callable[[Manager], Any], do: Callable[[Work], Any] = lambda work: work()
    ) -> None:
        expected = read(plain)
        hits = zoocache.stats()["hits"]
        if (got := do(lambda: read(cached))) != expected:
            raise Differs(f"expected {expected}, got {got}")
        self.figures["hits"] += zoocache.stats()["hits"] > hits
        self.figures["reads"] += 1


ALONE = [("autocommit", "autocommit")]
SOME = [*ALONE, ("snapshot", "atomic")]
MORE = [*SOME, ("autocommit", "atomic"), ("atomic", "autocommit")]
MOST = [*MORE, ("snapshot", "autocommit"), ("atomic", "atomic"), ("autocommit", "raw")]
PAIRS = dict.fromkeys(CASES, ALONE) | {
    "a row": [*MOST, ("autocommit", "no autocommit")],
    "a row whose key nobody knows yet": MORE,
    "a row that enters and leaves a list": SOME,
}


def _play_all(name: str, alias: str) -> Counter[str]:
    figures: Counter[str] = Counter()
    with Stage() as stage:
        for reader, writer in PAIRS[name]:
            if alias == "other" and reader != "autocommit":
                continue  # a reader's lock keeps a rollback journal's writer from committing
            play = Play(stage, CASES[name], reader, writer)
            steps = play.steps()
            assert min(steps) >= 3, f"the points were not reached: {steps}"
            for n, schedule in enumerate(schedules(*steps)):
                try:
                    play.run(n, schedule, watched=n % 2 == 0)
                except Differs as error:
                    how = f"{reader} reads, {writer} writes, {schedule}, {n}"
                    raise Differs(how) from error
            figures += play.figures
    return figures


@pytest.mark.parametrize("name", CASES)
def test_every_order_of_steps(name: str, rows: Any, evidence: Callable[..., None]) -> None:
    figures = _play_all(name, rows.alias)
    assert figures["hits"] > figures["schedules"]
    evidence(f"{name}, in every order, on {rows.alias}", **figures)


# That the orders find what they are after


def _announces_nothing(self: Written, *tags: Any) -> None:
    points.reach("commit:announced")


def _stamp_of_the_statement(self: ConnectionState, target: Any) -> int:
    """Though the snapshot is older."""
    return int(target.stamp())


def _mutate_fills(patch: pytest.MonkeyPatch) -> None:
    target = store.cache()
    assert target is not None
    fill = target.fill

    def fill_of_now(key: Any, value: Any, stamp: int, **rest: Any) -> Any:
        return fill(key, value, target.stamp(), **rest)

    patch.setattr(target, "fill", fill_of_now)


MUTANTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "writes are not announced": lambda patch: patch.setattr(
        Written, "announce", _announces_nothing
    ),
    "a snapshot is as old as its reads": lambda patch: patch.setattr(
        ConnectionState, "fill_stamp", _stamp_of_the_statement
    ),
    "a snapshot is served what is newer": lambda patch: patch.setattr(
        ConnectionState, "newest", lambda self: None
    ),
    "a fill is as old as its end": _mutate_fills,
}


@pytest.mark.parametrize("mutant", MUTANTS)
@pytest.mark.parametrize("rows", ["sqlite", "postgres"], indirect=True)
def test_a_wrong_rule_is_found(mutant: str, rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[mutant](monkeypatch)
    with pytest.raises(Differs):
        _play_all("a row", rows.alias)
