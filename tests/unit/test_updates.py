"""The tags of an UPDATE that the extension makes: all of them, or none."""

from __future__ import annotations

import gc
import sys
import weakref
from types import SimpleNamespace
from typing import Any

import pytest

from zoocache.shm import _core


class Field:
    def __init__(self, column: str) -> None:
        self.column = column


class Column:
    def __init__(self, target: Any, alias: str = "T") -> None:
        self.target, self.alias = target, alias


class Equal:
    def __init__(self, lhs: Any, rhs: Any) -> None:
        self.lhs, self.rhs = lhs, rhs


class Same(Equal):
    """Another class of equalities."""


class Above(Equal):
    pass


KEY, NAME, OWNER, KIND, CODE = map(Field, ["id", "name", "owner_id", "kind_id", "code"])
OF_FIELDS = (
    None,
    (OWNER.column, "@t:mem:owner_id", True),
    (KIND.column, "@t:mem:kind_id", True),
    (CODE.column, "@t:mem:code", False),
)
FIELDS = (NAME, OWNER, KIND, CODE)


def update(fields: Any = FIELDS, said: Any = OF_FIELDS, equalities: Any = (Equal, Same)) -> Any:
    return _core.Update("@t:any", "@t:row", KEY, Column, equalities, fields, said)


def query(*values: Any, leaf: Any = None, **other: Any) -> Any:
    """`values` are pairs; the WHERE is what save() makes, if nothing is said."""
    where = {"children": [leaf or Equal(Column(KEY), 7)], "connector": "AND", "negated": False}
    asked = SimpleNamespace(values=[(field, None, value) for field, value in values])
    asked.where = SimpleNamespace(**{name: other.pop(name, where[name]) for name in where})
    asked.alias_map = {"T": object()}
    vars(asked).update(other)
    return asked


WHOLE = [(NAME, "x"), (OWNER, 3), (KIND, None), (CODE, None)]


def test_a_whole_row() -> None:
    tags = update().tags(query(*WHOLE))
    assert type(tags) is frozenset
    assert tags == {"@t:any", "@t:row:7", "@t:mem:owner_id:3"}
    for leaf in [Same(Column(KEY), -7), Equal(Column(KEY), 7 * 10**40)]:
        tags = update().tags(query(*WHOLE, leaf=leaf))
        assert tags == {"@t:any", f"@t:row:{leaf.rhs}", "@t:mem:owner_id:3"}


def test_what_no_value_is_set_for_may_be_any() -> None:
    every = {"@t:mem:owner_id", "@t:mem:kind_id", "@t:mem:code"}
    assert update().tags(query((NAME, "x"))) == {"@t:any", "@t:row:7", *every}
    known = {"@t:any", "@t:row:7", "@t:mem:owner_id:3", "@t:mem:kind_id", "@t:mem:code"}
    assert update().tags(query((OWNER, 3))) == known


def test_values_in_any_order_and_twice() -> None:
    values = [(KIND, 4), (NAME, "x"), (CODE, None), (OWNER, 3), (KIND, 5), (NAME, "y")]
    tags = {"@t:any", "@t:row:7", "@t:mem:owner_id:3", "@t:mem:kind_id:4", "@t:mem:kind_id:5"}
    assert update().tags(query(*values)) == tags


@pytest.mark.parametrize(
    "asked",
    [
        query(),
        query((NAME, "x"), values=((NAME, None, "x"),)),
        query((NAME, "x"), values=[(NAME, "x")]),
        query((NAME, "x"), values=[[NAME, None, "x"]]),
        query((NAME, "x"), (Field("name"), "x")),
        query((KEY, 8)),
        query((OWNER, True)),
        query((OWNER, "3")),
        query((OWNER, object())),
        query((CODE, 3)),
        query((NAME, "x"), leaf=Equal(Column(KEY), True)),
        query((NAME, "x"), leaf=Equal(Column(KEY), "7")),
        query((NAME, "x"), leaf=Equal(Column(KEY), None)),
        query((NAME, "x"), leaf=Equal(Column(NAME), 7)),
        query((NAME, "x"), leaf=Equal(Column(KEY, "U"), 7)),
        query((NAME, "x"), leaf=Equal(KEY, 7)),
        query((NAME, "x"), leaf=Equal(type("Column", (Column,), {})(KEY), 7)),
        query((NAME, "x"), leaf=Above(Column(KEY), 7)),
        query((NAME, "x"), connector="XOR"),
        query((NAME, "x"), negated=True),
        query((NAME, "x"), children=[]),
        query((NAME, "x"), children=[Equal(Column(KEY), 7), Equal(Column(KEY), 7)]),
        query((NAME, "x"), children=(Equal(Column(KEY), 7),)),
        query((NAME, "x"), alias_map={}),
        query((NAME, "x"), alias_map={"T": 1, "U": 2}),
        query((NAME, "x"), alias_map=["T"]),
    ],
)
def test_every_other_update_is_python_s(asked: Any) -> None:
    assert update().tags(asked) is None


def test_a_column_that_has_another_name_now() -> None:
    owner = Field("".join(["owner", "_id"]))
    made = update((owner,), ((owner.column, "@t:mem:owner_id", True),))
    assert made.tags(query((owner, 3))) is not None
    owner.column = "other_id"
    assert made.tags(query((owner, 3))) is None


def test_what_asks_raises() -> None:
    class Broken:
        @property
        def column(self) -> str:
            raise ZeroDivisionError

    class Emptying:
        asked: Any

        @property
        def column(self) -> str:
            self.asked.values.clear()
            return "owner_id"

    for field in [Broken(), Emptying()]:
        made = update((field, NAME), (("owner_id", "@t:mem:owner_id", True), None))
        asked = query((field, 10**20), (NAME, "x"))
        if isinstance(field, Emptying):
            field.asked = asked
            assert made.tags(asked) in (None, {"@t:any", "@t:row:7", f"@t:mem:owner_id:{10**20}"})
        else:
            with pytest.raises(ZeroDivisionError):
                made.tags(asked)
    for name in ["where", "alias_map", "values"]:
        asked = query((NAME, "x"))
        delattr(asked, name)
        with pytest.raises(AttributeError):
            update().tags(asked)
    for name in ["children", "connector", "negated"]:
        asked = query((NAME, "x"))
        delattr(asked.where, name)
        with pytest.raises(AttributeError):
            update().tags(asked)
    for leaf in [Equal(Column(KEY), 7), Equal(Column(KEY), 7)]:
        delattr(leaf, "rhs")
        with pytest.raises(AttributeError):
            update().tags(query((NAME, "x"), leaf=leaf))
    with pytest.raises(TypeError):
        update().tags(query((NAME, "x"), leaf=Equal(Column(KEY, []), 7)))  # type: ignore[arg-type]


def test_what_it_cannot_be_made_of() -> None:
    for said in [(1,), (("a",),), ((1, "b", True),), (("a", 2, True),), (("a", "b", True, 4),)]:
        with pytest.raises(TypeError):
            update((OWNER,), said)
    with pytest.raises(ValueError, match="as many fields"):
        update((OWNER,), ())
    for wrong in [([], ()), ((), [])]:
        with pytest.raises(TypeError):
            update(*wrong)
    with pytest.raises(TypeError):
        update(equalities=5)
    with pytest.raises(TypeError):
        _core.Update()
    fields = tuple(Field(str(n)) for n in range(65))
    said = tuple((field.column, f"@t:{field.column}", True) for field in fields)
    with pytest.raises(ValueError, match="64 foreign keys"):
        update(fields, said)
    tags = update(fields[:64], said[:64]).tags(query(*((field, 1) for field in fields[:63])))
    assert tags == {"@t:any", "@t:row:7", "@t:63", *(f"@t:{n}:1" for n in range(63))}


def test_nothing_is_kept_and_nothing_let_go_too_early() -> None:
    made, leaf = update(), Equal(Column(KEY), 10**20)
    asked, strange = query(*WHOLE, leaf=leaf), query((CODE, 10**21), leaf=leaf)
    counted = [*FIELDS, KEY, Column, Equal, leaf, leaf.lhs, leaf.rhs, asked, asked.where]
    counted += [asked.values, asked.values[1], OF_FIELDS[1], *OF_FIELDS[1][:2]]
    counts = [*map(sys.getrefcount, counted)]
    for _ in range(100):
        assert made.tags(asked)
        assert made.tags(strange) is None
        update()
        with pytest.raises(TypeError):
            update(FIELDS, (*OF_FIELDS[:3], 4))
    gc.collect()
    assert [*map(sys.getrefcount, counted)] == counts


def test_a_model_that_is_forgotten_goes_with_it() -> None:
    class Other(Field):
        pass

    field: Any = Other("other_id")
    field.update = update((field,), (None,))
    gone = weakref.ref(field)
    del field
    gc.collect()
    assert gone() is None
