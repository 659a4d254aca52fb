"""Instances that the extension makes from rows, and querysets from recipes: whole ones, or none."""

from __future__ import annotations

import gc
import sys
import weakref
from typing import Any

import pytest

from zoocache.shm import _core


class State:
    pass


class Model:
    colour = "red"


def filling(width: int = 3, names: tuple[str, ...] = ("a", "b"), columns: Any = (2, 0)) -> Any:
    return _core.Filling(Model, State, {"adding": False, "db": None}, width, names, columns)


def test_instances_have_the_names_in_their_order_and_a_state_of_their_own() -> None:
    one, other = filling().build(((1, 2, 3), (4, 5, 6)), "alias")
    assert type(one) is type(other) is Model
    assert list(vars(one)) == ["_state", "a", "b"]
    assert (one.a, one.b, other.a, other.b) == (3, 1, 6, 4)
    assert type(one._state) is State
    assert vars(one._state) == vars(other._state) == {"adding": False, "db": "alias"}
    assert one._state is not other._state
    one._state.db = one.colour = "mine"
    assert (other._state.db, other.colour, Model.colour) == ("alias", "red", "red")
    del one.a
    assert not hasattr(one, "a")
    assert filling().build((), "alias") == []


def test_a_name_that_comes_twice_has_the_last_value() -> None:
    (one,) = filling(names=("a", "b", "a"), columns=(0, 1, 2)).build(((1, 2, 3),), "alias")
    assert (list(vars(one)), one.a) == (["_state", "a", "b"], 3)


@pytest.mark.parametrize("rows", [((1, 2),), ((1, 2, 3, 4),), ((1, 2, 3), [1, 2, 3]), (None,)])
def test_rows_of_another_kind_make_nothing(rows: Any) -> None:
    with pytest.raises(ValueError, match="a row is a tuple"):
        filling().build(rows, "alias")


def test_what_it_is_not_made_for_is_refused() -> None:
    for args in [([], "alias"), ((),), ((), "alias", 1), (iter(()), "alias")]:
        with pytest.raises(TypeError):
            filling().build(*args)
    for columns in [(0,), (0, 3), (0, -1)]:
        with pytest.raises(IndexError):
            filling(columns=columns)
    with pytest.raises(TypeError):
        filling(columns=(0, "1"))
    with pytest.raises(TypeError):
        filling(names=(1, []))


def test_nothing_is_kept_and_nothing_let_go_too_early() -> None:
    made, alias = filling(), "an alias of its own"
    row = (object(), object(), object())
    build = [*map(sys.getrefcount, (*row, alias, Model, State))]
    for _ in range(100):
        made.build((row, row), alias)
        with pytest.raises(ValueError, match="a row is a tuple"):
            made.build((row, row[1:]), alias)
    gc.collect()
    assert [*map(sys.getrefcount, (*row, alias, Model, State))] == build


def test_a_model_that_is_forgotten_goes_with_its_filling() -> None:
    class Other:
        pass

    Other.build = _core.Filling(Other, State, {}, 1, ("a",), (0,)).build
    (one,) = Other.build(((Other,),), "alias")
    gone = weakref.ref(Other)
    del Other, one
    gc.collect()
    assert gone() is None


class Shape:
    quick: Any


class Queryset:
    _recipe: Any = None


def queryset(shape: Any, *values: Any, **own: Any) -> Any:
    made = Queryset()
    made.__dict__.update(own, _recipe=(shape, values))
    return made


def step() -> tuple[Any, list[Any]]:
    """The method's step, and the calls that it left to Python."""
    asked: list[Any] = []
    return _core.Step("filter", lambda *args: asked.append(args) or "Python's").take, asked


def test_a_step_that_is_known_gives_a_queryset_of_the_recipe() -> None:
    take, asked = step()
    child, attributes = object(), {"model": Model, "_fields": ("a",)}
    shape = Shape()
    shape.quick = {("filter", "name", str): (child, attributes)}
    before = queryset(shape, 1, _db="other", _hints={"a": 1}, _result_cache=[1])
    made = take(before, (), {"name": "x"})
    assert type(made) is Queryset
    assert vars(made) == {
        "model": Model,
        "_fields": ("a",),
        "_recipe": (child, (1, "x")),
        "_db": "other",
        "_hints": {"a": 1},
    }
    assert attributes == {"model": Model, "_fields": ("a",)}
    assert vars(take(queryset(shape), (), {"name": "y"}))["_recipe"] == (child, ("y",))
    assert asked == []


def test_every_other_step_is_python_s() -> None:
    take, asked = step()
    shape = Shape()
    shape.quick = {("filter", "name", str): (object(), {})}
    known = queryset(shape)
    plain = Queryset()
    text = type("Text", (str,), {})
    calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
        (plain, (), {"name": "x"}),
        (known, (), {"name": 1}),
        (known, (), {"name": text("x")}),
        (known, (), {"other": "x"}),
        (known, ("x",), {"name": "x"}),
        (known, (), {"name": "x", "other": 1}),
        (known, (), {}),
    ]
    for call in calls:
        assert take(*call) == "Python's"
    assert asked == calls
    for wrong in [(), (known, ()), (known, [], {}), (known, (), [])]:
        with pytest.raises(TypeError):
            take(*wrong)
    with pytest.raises(AttributeError):
        take(object(), (), {"name": "x"})


def test_a_step_keeps_nothing() -> None:
    take, _ = step()
    shape, value = Shape(), "a value of its own"
    child, attributes = object(), {"model": Model}
    shape.quick = {("filter", "name", str): (child, attributes)}
    before = queryset(shape, value)
    counted = [value, child, attributes, shape, before, Queryset]
    counts = [*map(sys.getrefcount, counted)]
    for _ in range(100):
        take(before, (), {"name": value})
    gc.collect()
    assert [*map(sys.getrefcount, counted)] == counts
