"""A Near: what it finds of a queryset's answers, and when it leaves them to find()."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

import zoocache
from zoocache import local, store
from zoocache.shm import Cache, _core

ROWS = ((1, "a"), (2, "b"))


class Queryset:
    """Has no attributes of its class: what is not in its __dict__ is not there."""

    def __init__(self, **own: Any) -> None:
        self.__dict__.update(own)


class Stage:
    """A Near and all that it looks at, so that it finds ROWS for the values (7,)."""

    def __init__(self, cache: Cache) -> None:
        store.cache()
        memo = local.memo(lambda *values: None)
        copy = local.Copy(local.copies, b"entry", b"", cache.stamp(), 0)
        copy.keep_rows(b"key", ROWS, 0, memo, 7)
        assert memo.get((7,)) == ROWS
        self.answered: list[tuple[Any, str]] = []
        self.plan = SimpleNamespace(near=(b"digest", memo), answer=self.answer)
        self.shape = SimpleNamespace(plans={"rows": {"default": self.plan}})
        self.connection = SimpleNamespace(connection=object())
        self.session = SimpleNamespace(
            known=(self.connection, self.connection.connection, b"digest"), digest=self.digest
        )
        self.here = SimpleNamespace(states={"default": SimpleNamespace(session=self.session)})
        self.router = SimpleNamespace(routers=[])
        self.signals = SimpleNamespace(receivers=[]), SimpleNamespace(receivers=[])
        self.loop: Any = None
        self.looked_anew = 0
        self.near = _core.Near(
            "rows", self.signals, lambda: self.loop, self.here, self.router, "default"
        )

    def answer(self, rows: Any, alias: str) -> Any:
        self.answered.append((rows, alias))
        return [*rows]

    def digest(self) -> bytes:
        self.looked_anew += 1
        return b"digest"

    def queryset(self, **own: Any) -> Queryset:
        return Queryset(_recipe=(self.shape, (7,)), **own)


@pytest.fixture
def stage(default_cache: Cache) -> Stage:
    return Stage(default_cache)


def test_what_is_kept_is_found(stage: Stage) -> None:
    for queryset in (
        stage.queryset(),
        stage.queryset(_db=None, _hints={}),
        stage.queryset(_db="default", _hints={"instance": 1}),
    ):
        assert stage.near.answer(queryset) == [*ROWS]
        assert stage.near.find(Queryset(_db="default"), queryset._recipe) == [*ROWS]
    assert stage.answered == [(ROWS, "default")] * 6
    assert stage.looked_anew == 0


def test_rows_become_the_queryset_s(stage: Stage) -> None:
    queryset = stage.queryset(_result_cache=None, _prefetch_related_lookups=())
    found = stage.near.rows(queryset)
    assert found == [*ROWS]
    assert queryset._result_cache is found
    assert stage.near.rows(queryset) is found
    assert len(stage.answered) == 1
    assert stage.near.rows(stage.queryset(_result_cache=[5])) == [5]
    for recipe in ({}, {"_recipe": None}):  # its class may have to do with the list
        assert stage.near.rows(Queryset(_result_cache=[5], **recipe)) is None


def test_what_a_session_that_is_not_connected_sees_is_asked(stage: Stage) -> None:
    stage.connection.connection = None
    assert stage.near.answer(stage.queryset()) == [*ROWS]
    stage.connection.connection = object()  # another one
    assert stage.near.answer(stage.queryset()) == [*ROWS]
    assert stage.looked_anew == 2
    stage.session.digest = lambda: b"another"
    assert stage.near.answer(stage.queryset()) is None


LEFT: dict[str, Callable[[Stage], Any]] = {
    "an event loop": lambda stage: setattr(stage, "loop", object()),
    "a router": lambda stage: stage.router.routers.append(object()),
    "a receiver": lambda stage: stage.signals[0].receivers.append(object()),
    "a receiver of the other signal": lambda stage: stage.signals[1].receivers.append(object()),
    "somebody busy": lambda stage: local.busy.add("test"),
    "no plan of the question": lambda stage: stage.shape.plans.clear(),
    "no plan of the alias": lambda stage: stage.shape.plans["rows"].clear(),
    "what only Django knows": lambda stage: stage.shape.plans["rows"].update(default=None),
    "no connection of this thread": lambda stage: stage.here.states.clear(),
    "another session": lambda stage: setattr(
        stage.session, "known", (*stage.session.known[:2], b"another")
    ),
    "nothing kept": lambda stage: setattr(stage.plan, "near", (b"", None)),
    "an invalidation": lambda stage: zoocache.clear(),
    "an answer that the plan does not know": lambda stage: setattr(
        stage.plan, "answer", lambda rows, alias: None
    ),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_is_unusual_is_left_to_find(stage: Stage, name: str) -> None:
    queryset = stage.queryset(_result_cache=None)
    LEFT[name](stage)
    try:
        assert stage.near.answer(queryset) is None
        assert stage.near.rows(queryset) is None
        assert stage.near.find(queryset, queryset._recipe) is None
    finally:
        local.busy.discard("test")
    assert queryset._result_cache is None
    assert stage.answered == []


@pytest.mark.parametrize(
    "own",
    [
        {"_recipe": None},
        {"_hints": {"instance": 1}},
        {"_hints": None},
        {"_db": "other"},
    ],
    ids=str,
)
def test_querysets_that_are_left_to_find(stage: Stage, own: dict[str, Any]) -> None:
    queryset = stage.queryset()
    queryset.__dict__.update(own)
    assert stage.near.answer(queryset) is stage.near.rows(queryset) is None
    assert stage.near.answer(Queryset()) is stage.near.rows(Queryset()) is None


@pytest.mark.parametrize("values", [(8,), (7.0,), (True,), (7, 7), (), ([],)], ids=str)
def test_other_values_are_not_there(stage: Stage, values: tuple[Any, ...]) -> None:
    assert stage.near.find(Queryset(), (stage.shape, values)) is None


def test_prefetches_are_not_its_business(stage: Stage) -> None:
    queryset = stage.queryset(_prefetch_related_lookups=("tags",), _result_cache=[1])
    assert stage.near.rows(queryset) is None


def test_errors_are_raised(stage: Stage) -> None:
    class Router:
        @property
        def routers(self) -> Any:
            raise ImportError("no such router")

    def failing(*args: Any) -> Any:
        raise LookupError

    queryset = stage.queryset(_result_cache=None)
    near = _core.Near("rows", stage.signals, lambda: None, stage.here, Router(), "default")
    for find in (near.answer, near.rows):
        with pytest.raises(ImportError, match="no such router"):
            find(queryset)
    near = _core.Near("rows", stage.signals, failing, stage.here, stage.router, "default")
    with pytest.raises(LookupError):
        near.rows(queryset)
    stage.plan.answer = failing
    with pytest.raises(LookupError):
        stage.near.find(queryset, queryset._recipe)
    stage.session.known = None
    stage.session.digest = failing
    with pytest.raises(LookupError):
        stage.near.answer(queryset)
    del stage.signals[1].receivers
    with pytest.raises(AttributeError):
        stage.near.answer(queryset)
    assert queryset._result_cache is None


def test_what_it_is_not_made_for_is_refused(stage: Stage) -> None:
    for args in [
        (),
        ("rows",),
        ("rows", [], 1, 2, 3, "default"),
        ("rows", (), 1, 2, 3, b"default"),
    ]:
        with pytest.raises(TypeError):
            _core.Near(*args)
    for args in [(), (Queryset(),), (Queryset(), (), 1)]:
        with pytest.raises(TypeError):
            stage.near.find(*args)
    for find in (stage.near.answer, stage.near.rows):
        with pytest.raises(AttributeError):
            find(5)
    for recipe in (None, (), (stage.shape,), (stage.shape, (7,), 1), [stage.shape, (7,)]):
        assert stage.near.find(Queryset(), recipe) is None


def test_nothing_is_kept_and_nothing_let_go_too_early(stage: Stage) -> None:
    queryset, other = stage.queryset(), stage.queryset(_hints={"instance": 1})
    stage.answer = stage.plan.answer = lambda rows, alias: rows  # type: ignore[method-assign]
    held = (
        queryset._recipe, stage.shape, stage.plan, stage.plan.near, stage.plan.near[1],
        stage.here.states, stage.session, stage.session.known, stage.connection.connection,
        stage.router.routers, stage.signals[0].receivers, ROWS,
    )  # fmt: skip
    before = [*map(sys.getrefcount, held)]
    for _ in range(1000):
        stage.near.answer(queryset)
        stage.near.find(queryset, queryset._recipe)
        stage.near.answer(other)
        queryset.__dict__.pop("_result_cache", None)
        stage.near.rows(queryset)
    del queryset._result_cache
    gc.collect()
    after = [*map(sys.getrefcount, held)]
    assert all(abs(one - other) < 100 for one, other in zip(before, after, strict=True))
