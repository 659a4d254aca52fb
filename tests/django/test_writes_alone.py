"""A write outside transactions with nothing beside it ends by a way of its own: only such a one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.models import Value
from django.test.utils import override_settings
from shop.models import Category

from zoocache import commits, local, points, store
from zoocache.contrib.django.connection import state_of
from zoocache.contrib.django.transactions import Transactions
from zoocache.contrib.django.written import MAX_TAGS
from zoocache.shm.intent import End, quarantined

Work = Callable[[], object]


class Meanwhile(Value):
    """A value whose SQL is made, after its write was announced, when `work` is done."""

    def __init__(self, value: str, work: Work) -> None:
        super().__init__(value)
        self.work = work

    def as_sql(self, *args: Any, **kwargs: Any) -> Any:
        self.work()
        return super().as_sql(*args, **kwargs)


def rename(name: str, work: Work | None = None) -> None:
    Category.objects.filter(pk=1).update(name=name if work is None else Meanwhile(name, work))


def cached_name() -> str:
    return str(Category.cached.get(pk=1).name)


@pytest.fixture
def state(db: Any) -> Any:
    Category.objects.create(pk=1, name="old")
    Category.objects.create(pk=2, name="other")
    assert cached_name() == "old"
    return state_of(db)


@pytest.fixture
def alone(state: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Those that ended by the short way."""
    ended: list[Any] = []
    original = Transactions._over_alone

    def over_alone(self: Any) -> None:
        ended.append(self)
        original(self)

    monkeypatch.setattr(Transactions, "_over_alone", over_alone)
    return ended


def is_busy(state: Any) -> bool:
    return state._token in local.busy


def is_as_ever(state: Any, elsewhere: Any) -> None:
    """Nothing is open, owed or announced, and everybody sees what was written."""
    assert not is_busy(state)
    assert not any([state.written.dirty, state.written.owed, state._alone, state.begun])
    assert cached_name() == "new"
    assert elsewhere(cached_name) == "new"
    cache = store.cache()
    assert cache is not None
    before = cache.stats()["pending"]
    assert elsewhere(cached_name) == "new"
    assert cache.stats()["pending"] == before


def test_a_plain_one(state: Any, alone: list[Any], elsewhere: Any) -> None:
    def look() -> None:
        assert is_busy(state)
        assert state.written.dirty

    rename("new", look)
    assert alone == [state]
    is_as_ever(state, elsewhere)


@pytest.mark.parametrize(
    "work",
    [
        lambda: Category.objects.filter(pk=2).update(name="else"),
        lambda: Category.objects.create(pk=3, name="third"),
        lambda: Category.objects.filter(pk=2).delete(),
        lambda: next(Category.objects.iterator(chunk_size=1)),
    ],
)
def test_with_another_statement_in_it(
    state: Any, alone: list[Any], elsewhere: Any, work: Work
) -> None:
    rename("new", work)
    assert not alone
    is_as_ever(state, elsewhere)


def test_one_that_fails(state: Any, alone: list[Any], elsewhere: Any) -> None:
    def fail() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        rename("newer", fail)
    assert not alone
    rename("new")
    is_as_ever(state, elsewhere)


@pytest.fixture
def begin_below(state: Any) -> Work:
    """Begins a transaction with the driver's own cursor, which Django does not see."""
    if state.connection.vendor == "mysql":
        pytest.skip("its driver does not say that a transaction is open")

    def begin() -> None:
        cursor = state.connection.connection.cursor()
        cursor.execute("BEGIN")
        cursor.close()

    return begin


def test_one_whose_transaction_began_below_django(
    state: Any, alone: list[Any], elsewhere: Any, begin_below: Work
) -> None:
    begin_below()
    assert not is_busy(state)
    rename("new")
    assert not alone
    assert is_busy(state)
    assert state.stamp is not None  # of its first statement
    assert elsewhere(cached_name) == "old"
    with state.connection.cursor() as cursor:
        cursor.execute("COMMIT")
    is_as_ever(state, elsewhere)


def test_one_whose_transaction_begins_in_it(state: Any, alone: list[Any], elsewhere: Any) -> None:
    def begin() -> None:
        with connections[state.connection.alias].cursor() as cursor:
            cursor.execute("BEGIN")

    rename("new", begin)
    assert not alone
    assert is_busy(state)
    assert elsewhere(cached_name) == "old"
    with state.connection.cursor() as cursor:
        cursor.execute("COMMIT")
    is_as_ever(state, elsewhere)


def test_one_whose_transaction_begins_below_django(
    state: Any, alone: list[Any], elsewhere: Any, begin_below: Work
) -> None:
    rename("new", begin_below)
    assert not alone
    assert is_busy(state)
    assert state.begun
    assert state.stamp is None  # what is read in it is not stored
    assert elsewhere(cached_name) == "old"
    with state.connection.cursor() as cursor:
        cursor.execute("COMMIT")
    is_as_ever(state, elsewhere)


def test_an_unfinished_select_before_it(state: Any, alone: list[Any], elsewhere: Any) -> None:
    rows = Category.objects.iterator(chunk_size=1)
    next(rows)
    rename("new")
    assert not alone
    rows.close()
    del rows
    state.calm()  # at the latest: not all drivers pin anything
    is_as_ever(state, elsewhere)


def test_one_in_a_transaction(state: Any, alone: list[Any], elsewhere: Any) -> None:
    with transaction.atomic(using=state.connection.alias):
        rename("newer")
        with transaction.atomic(using=state.connection.alias):
            rename("new")
        assert elsewhere(cached_name) == "old"
    assert not alone
    is_as_ever(state, elsewhere)


def test_the_settings_change_in_it(state: Any, alone: list[Any], elsewhere: Any) -> None:
    """The connection does not count as usual again before what was changed is looked at."""
    alias, changed = state.connection.alias, override_settings(ZOOCACHE={"SHADOW": 7})
    try:
        rename("new", changed.enable)
        assert not alone
        assert is_busy(state_of(connections[alias]))
    finally:
        changed.disable()
    is_as_ever(state, elsewhere)


def test_the_connection_is_closed_in_it(state: Any, alone: list[Any], elsewhere: Any) -> None:
    rename("new", state.connection.close)
    assert not alone
    is_as_ever(state, elsewhere)


def test_one_in_a_thread_that_the_connection_is_lent_to(
    state: Any, alone: list[Any], elsewhere: Any
) -> None:
    """What the connection's own thread is at cannot be seen from there."""
    connection = state.connection
    connection.inc_thread_sharing()

    def work() -> None:
        connections[connection.alias] = connection
        rename("new")

    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        connection.dec_thread_sharing()
    assert not alone
    assert is_busy(state)
    state.calm()
    is_as_ever(state, elsewhere)


def test_what_begins_when_it_has_been_told(
    state: Any, alone: list[Any], elsewhere: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal handler, say, that begins a transaction, and is not done with it."""
    settle = commits.settle

    def settling(announced: Any, end: End) -> None:
        monkeypatch.undo()
        settle(announced, end)
        state.manual = True
        state.stir()

    monkeypatch.setattr(commits, "settle", settling)
    rename("new")
    assert is_busy(state)
    state.manual = False
    state.calm()
    is_as_ever(state, elsewhere)


def test_what_begins_when_it_was_announced(state: Any, alone: list[Any], elsewhere: Any) -> None:
    def begin(name: str) -> None:
        points.install(None)
        state.manual = True
        state.stir()

    points.install(begin)
    rename("new")
    assert not alone
    assert is_busy(state)
    state.manual = False
    state.calm()
    is_as_ever(state, elsewhere)


def test_what_settles_when_it_was_announced(state: Any, elsewhere: Any) -> None:
    """The finalizer of a cursor, say, which finds a write that has not run yet."""

    def settle(name: str) -> None:
        points.install(None)
        state.settle()

    points.install(settle)
    rename("new", lambda: elsewhere(cached_name))
    is_as_ever(state, elsewhere)


@pytest.mark.parametrize("point", ["commit:announced", "commit:done"])
def test_one_that_is_interrupted(state: Any, alone: list[Any], elsewhere: Any, point: str) -> None:
    """It is told at once, or by the next statement, whatever that is."""

    def interrupt(name: str) -> None:
        if name == point:
            points.install(None)
            raise KeyboardInterrupt

    points.install(interrupt)
    with pytest.raises(KeyboardInterrupt):
        rename("new")
    assert state.written.owed is (point == "commit:done")
    Category.objects.count()
    assert not state.written.owed
    rename("new")
    is_as_ever(state, elsewhere)


def test_what_is_announced_by_a_connection_that_is_dropped(state: Any) -> None:
    """Nobody will know what became of it: it counts as a commit of unknown outcome."""
    lost = type(state.written)()
    lost.announce(["lost"], state.session.named()._replace(quarantine=60))
    cache = store.cache()
    assert cache is not None
    assert not quarantined(cache)
    del lost
    assert len(quarantined(cache)) == 1


def test_what_is_written_is_the_caller_s_until_there_is_more(state: Any) -> None:
    written = type(state.written)()
    tags, roots = frozenset(["@a:any", "@a:row:1"]), frozenset(["@a"])
    written.add(tags, roots)
    assert (written.tags, written.tables) == (tags, roots)
    written.add(["@b:any"], ["@b"])
    written.add(["@b:row:2"], ())
    assert written.tags == {*tags, "@b:any", "@b:row:2"}
    assert written.tables == {"@a", "@b"}
    assert (tags, roots) == ({"@a:any", "@a:row:1"}, {"@a"})
    written.forget()
    assert not any([written.tags, written.tables, written.owed, written.dirty])


def test_too_many_tags_are_their_tables(state: Any) -> None:
    many = {f"@a:row:{n}" for n in range(MAX_TAGS + 1)}
    written = type(state.written)()
    written.add(many, ["@a"])
    assert written.tags == {"@a"}
    written.add(["@b:any"], ["@b"])
    assert written.tags == {"@a", "@b:any"}
    written.add(many, ["@a"])
    assert written.tags == {"@a", "@b"}
    written.forget()
