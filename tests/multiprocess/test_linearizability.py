"""The checker of histories, on histories that are drawn: what it must accept, and what not.

A line is an operation: what it does, with the tags of what it stores, `=` what it returned, and a
bar from its call to its return (`|--|`) or to the death of its process (`|--x`). A fill has two
bars: its stamp's, and its own.
"""

from __future__ import annotations

import re

import pytest
from linearizability import explain, stale
from specification import Op

TAGS = {"a": 2, "b": 3}
LINE = re.compile(r"\s*(?P<kind>\w+)(?P<words>[\w ]*)(= *(?P<result>[^|]*[^|\s]))? *(?P<bars>\|.*)")
ANSWERS = {"-": None, "yes": True, "no": False}


def drawn(drawing: str) -> list[Op]:
    ops = []
    for process, line in enumerate(filter(str.strip, drawing.splitlines())):
        found = LINE.fullmatch(line.rstrip())
        assert found, line
        words, result = found["words"].split(), found["result"]
        bars = [
            (bar.start() + found.start("bars"), bar.end() - 1 + found.start("bars"))
            for bar in re.finditer(r"\|-*[|x]", found["bars"])
        ]
        numbers = [int(word) for word in words if word.isdigit()]
        tags = tuple(TAGS[word] for word in words if word in TAGS)
        assert len(numbers) + len(tags) == len(words), line
        killed = line.rstrip().endswith("x")
        if not killed and result is None:
            result = "stored" if found["kind"] == "set" else "-"
        ops.append(
            Op(
                found["kind"], *bars[-1], tags=tags, killed=killed, process=process,
                result=int(result) if result and result.isdigit() else ANSWERS.get(result, result),
                value=numbers[-1] if numbers else 0,
                expected=numbers[0] if len(numbers) > 1 else 0,
                stamped=bars[0] if len(bars) > 1 else (0, 0),
            )
        )  # fmt: skip
    return ops


# In a segment that has room for everything. What is explained there is explained where entries
# may vanish, too.
ACCEPTED = {
    "one after the other": """
        get = -        ||
        set 1             ||
        get = 1              ||
        add 2 = no              ||
        replace 3 = yes            ||
        compare_and_set 3 10 = yes    ||
        incr 5 = 15                      ||
        delete = yes                        ||
        get = -                                ||
        add 4 = yes                               ||
        touch = yes                                  ||
    """,
    "a get beside a set sees it or not": """
        set 1          ||
        set 2             |---------|
        get = 1             ||
        get = 2                ||
    """,
    "the set that began first may be the last": """
        set 1          |------|
        set 2            |---|
        get = 2            ||
        get = 1                   ||
    """,
    "what is invalidated is gone, and the next add wins": """
        set 1 a        ||
        invalidate a      ||
        get = -              ||
        add 2 = yes             ||
    """,
    "another tag's invalidation": """
        set 1 a        ||
        invalidate b      ||
        get = 1              ||
    """,
    "a set that began before an invalidation, and ended after it, is gone": """
        set 1 a        |------|
        invalidate a     ||
        get = -                 ||
    """,
    "or is there": """
        set 1 a        |------|
        invalidate a     ||
        get = 1                 ||
    """,
    "a fill that was read before an invalidation is stored dead": """
        fill 1 a = stored  ||    ||
        invalidate a          ||
        get = -                     ||
    """,
    "or not at all": """
        fill 1 a = born dead  ||    ||
        invalidate a             ||
        get = -                        ||
    """,
    "a fill that was read after it": """
        invalidate a        ||
        fill 1 a = stored      ||    ||
        get = 1                        ||
    """,
    "a fill that began while it was invalidated": """
        invalidate a        |---------|
        fill 1 a = stored     ||  ||
        get = 1                         ||
    """,
    "a fill between the two moments of an invalidation lives beside what is not dead yet": """
        set 1 a             ||
        invalidate a           |------------|
        get = 1                         ||
        fill 2 a = stored        ||          ||
        get = 2                                 ||
    """,
    "a get misses what was replaced between its look and its answer": """
        set 1 a             ||
        invalidate a           |----------------|
        set 2 a                   ||
        get = -                  |--------------|
        get = 2                      ||
        get = 2                                   ||
    """,
    "a replace finds what is not dead yet, and outlives the invalidation": """
        set 1 a             ||
        invalidate a           |--------|
        replace 2 a = yes        |--|
        get = 2                           ||
    """,
    "a fill loses to the set of its time": """
        fill 1 = older  ||    ||
        set 2              ||
        get = 2                  ||
    """,
    "of two fills of one time the later is kept": """
        fill 1 = stored  ||    ||
        fill 2 = stored  ||  ||
        get = 1                   ||
    """,
    "an older fill is not": """
        fill 1 = older   ||           ||
        tick                ||
        fill 2 = stored        || ||
        get = 2                          ||
    """,
    "a fill is not stored over what is dead but newer": """
        fill 1 = older   ||               ||
        invalidate a        ||
        set 2 a                ||
        invalidate a              ||
    """,
    "an add that was dropped while it was stored does not say that it won": """
        add 1 a = no     |------|
        invalidate a       ||
        get = -                   ||
    """,
    "of two adds beside each other one wins": """
        add 1 = no       |----|
        add 2 = yes        |----|
        get = 2                   ||
    """,
    "numbers add up in any order": """
        set 10           ||
        incr 1 = 13         |-----|
        incr 2 = 12          |--|
        get = 13                    ||
    """,
    "a derived value dies with what it was derived from": """
        set 10 a         ||
        invalidate a        |-----|
        incr 1 = 11           ||
        get = -                     ||
    """,
    "killed: it is there": """
        set 1            ||
        set 2               |---x
        get = 2                   ||
    """,
    "killed: it is not": """
        set 1            ||
        set 2               |---x
        get = 1                   ||
    """,
    "killed in a delete between its moments: dead, and another takes it away": """
        set 1            ||
        delete              |---x
        get = -                   ||
        delete = yes                 ||
    """,
    "killed in an invalidation of two tags: one is dropped": """
        set 1 b          ||
        invalidate a b      |---x
        get = 1                   ||
    """,
    "killed in a fill after its stamp": """
        fill 1 a         ||     |---x
        invalidate a        ||
        get = -                       ||
    """,
    "a delete beside another's set need not find it": """
        set 1            ||
        delete = no         |--------|
        delete = yes          ||
        set 2                     ||
    """,
    "nor one that is replaced meanwhile": """
        set 1            ||
        delete = no         |----|
        set 2                 ||
        get = 2                   ||
    """,
}

REJECTED = {
    "stale": """
        set 1 a          ||
        invalidate a        ||
        get = 1                ||
    """,
    "stale after a clear": """
        set 1            ||
        clear               ||
        get = 1                ||
    """,
    "stale: the fill was read before": """
        fill 1 a = stored  ||    ||
        invalidate a          ||
        get = 1                     ||
    """,
    "a late fill brings back what was deleted": """
        set 1            ||
        fill 1 = stored     ||      ||
        delete = yes           ||
        get = 1                        ||
    """,
    "an older value comes back": """
        set 1            ||
        set 2               ||
        get = 1                ||
    """,
    "of two reads beside a set the later sees the older value": """
        set 1            ||
        set 2               |-------|
        get = 2               ||
        get = 1                  ||
    """,
    "two readers see two sets in different orders": """
        set 1            |----------------|
        set 2            |----------------|
        get = 1            ||
        get = 2               ||
        get = 1                  ||
    """,
    "a value comes back after it was missed": """
        set 1            ||
        get = -             ||
        get = 1                ||
    """,
    "a value that nobody stored": """
        set 1            ||
        get = 3             ||
    """,
    "a value from the future": """
        get = 1          ||
        set 1               ||
    """,
    "an add over an entry, which is then lost and found": """
        set 1            ||
        add 2 = yes         ||
        get = 1                ||
    """,
    "an add refused by nothing": """
        add 1 = no       ||
    """,
    "a lost update": """
        set 10           ||
        incr 1 = 11         |----|
        incr 1 = 11          |--|
    """,
    "an update that is done twice": """
        set 10           ||
        incr 1 = 11         |----|
        get = 12                   ||
    """,
    "two exchanges of one value": """
        set 1                         ||
        compare_and_set 1 2 = yes        |---|
        compare_and_set 1 3 = yes        |---|
    """,
    "an exchange of another value": """
        set 1                         ||
        compare_and_set 4 2 = yes        ||
    """,
    "an exchange refused where the value is the expected one, and stays": """
        set 1                         ||
        compare_and_set 1 2 = no         ||
        get = 1                             ||
    """,
    "a replace of nothing": """
        replace 1 = yes  ||
    """,
    "a replace of what is dead": """
        set 1 a          ||
        invalidate a        ||
        replace 2 = yes        ||
    """,
    "a derived value outlives what it was derived from": """
        set 10 a         ||
        invalidate a        |-----|
        incr 1 = 11           ||
        get = 11                    ||
    """,
    "an exchanged one, too": """
        set 1 a                     ||
        compare_and_set 1 2 = yes      |-----|
        invalidate a                     ||
        get = 2                                ||
    """,
    "a touch of what is dead": """
        set 1 a          ||
        invalidate a        ||
        touch = yes            ||
    """,
    "a fill over a newer one": """
        fill 1 = stored   ||           ||
        tick                 ||
        fill 2 = stored         || ||
        get = 2                           ||
        get = 1                              ||
    """,
    "a fill that is older than nothing": """
        fill 1 = older   || ||
    """,
    "a fill that is older than an older one": """
        fill 1 = stored  || ||
        tick                   ||
        fill 2 = older            || ||
    """,
    "a fill born dead of nothing": """
        fill 1 a = born dead  || ||
        invalidate b               ||
    """,
    "one entry deleted twice": """
        set 1            ||
        delete = yes        |----|
        delete = yes         |--|
    """,
    "nothing deleted": """
        delete = yes     ||
    """,
    "a replace of what was deleted meanwhile": """
        set 1            ||
        replace 2 = yes     |------|
        delete = yes          ||
        get = 2                      ||
    """,
    "an invalidation that ends late undoes another": """
        invalidate a        |------------------|
        fill 1 a = stored     ||     ||
        invalidate a             ||
        get = 1                                  ||
    """,
    "between the moments of an invalidation a value dies once": """
        set 1 a          ||
        invalidate a        |-----------|
        get = -               ||
        get = 1                  ||
    """,
    "killed: its value comes after its death": """
        set 1            ||
        set 2               |--x
        get = 1                  ||
        get = 2                     ||
    """,
    "killed: it was there, and the one before comes back": """
        set 1            ||
        set 2               |--------x
        get = 2               ||
        get = 1                        ||
    """,
    "killed: its sum is added twice": """
        set 10           ||
        incr 1              |--x
        get = 12                 ||
    """,
    "killed: an invalidation that has shown is taken back": """
        set 1 a          ||
        invalidate a        |-----------x
        get = -               ||
        get = 1                           ||
    """,
    "killed before it was stored: a fill that another invalidation has overtaken": """
        fill 1 a         ||     |---x
        invalidate a        ||
        get = 1                       ||
    """,
}

# What only a segment with room for everything is bound to.
REJECTED_WITH_ROOM = {
    "it is not there any more": """
        set 1            ||
        get = -             ||
    """,
    "two adds win": """
        add 1 = yes      |---|
        add 2 = yes       |---|
    """,
    "nothing to replace": """
        set 1            ||
        replace 2 = no      ||
    """,
    "nothing to add to": """
        set 10           ||
        incr 1 = -          ||
    """,
    "a delete does not find it": """
        set 1            ||
        delete = no         ||
    """,
    "a set is lost to a fill of the same time": """
        fill 1 = stored  ||    ||
        set 2               ||
    """,
    "a delete takes what was added after it": """
        set 1            ||
        delete = yes        |-----------|
        get = -               ||
        add 2 = yes              ||
        get = -                     ||
    """,
    "an add says that it won, though it was dropped before it was stored": """
        set 1            ||
        add 2 a = yes       |-----------|
        invalidate a          ||
        get = 1                  ||
        delete = yes                ||
        get = -                            ||
    """,
    "a get misses though nothing it can have seen is dead": """
        set 1 a             ||
        set 2 a                ||
        invalidate b              |-----|
        get = -                    |--|
    """,
}


@pytest.mark.parametrize("evicts", [False, True])
@pytest.mark.parametrize("name", ACCEPTED)
def test_explained(name, evicts):
    ops = drawn(ACCEPTED[name])
    assert stale(ops) is None
    assert explain(ops, evicts=evicts) is None


@pytest.mark.parametrize("evicts", [False, True])
@pytest.mark.parametrize("name", REJECTED)
def test_not_explained(name, evicts):
    assert explain(drawn(REJECTED[name]), evicts=evicts) is not None


@pytest.mark.parametrize("name", REJECTED_WITH_ROOM)
def test_explained_only_where_entries_vanish(name):
    ops = drawn(REJECTED_WITH_ROOM[name])
    assert explain(ops, evicts=True) is None
    assert explain(ops, evicts=False) is not None


STALE = ["stale", "stale after a clear", "stale: the fill was read before",
         "a late fill brings back what was deleted"]  # fmt: skip


@pytest.mark.parametrize("name", STALE)
def test_promise_1_by_itself(name):
    found = stale(drawn(REJECTED[name]))
    assert found is not None
    read, drop = found
    assert (read.kind, drop.kind) in [("get", "invalidate"), ("get", "clear"), ("get", "delete")]


def test_promise_1_holds_for_what_was_derived():
    drawing = """
        set 10 a                       ||
        incr 1 = 11                       ||
        compare_and_set 11 20 = yes          ||
        invalidate a                            ||
        incr 2 = 22                                ||
    """
    found = stale(drawn(drawing))
    assert found is not None
    assert (found[0].kind, found[1].kind) == ("incr", "invalidate")


def test_what_is_not_explained_is_shown():
    said = str(explain(drawn(REJECTED["an older value comes back"]), evicts=False))
    assert said.splitlines()[1].endswith("process 2: get = 1")
    assert "Entry(value=2" in said


def test_long_histories_do_not_take_long():
    """States that cannot be told apart are one: ever so many invalidations do not add up."""
    n = 120
    lines = []
    for i in range(n):
        at = " " * (6 * i)
        lines += [f"{text:28}{at}{bar}" for text, bar in (
            (f"set {i} a", "|--|"), ("invalidate a", "|---|"), ("invalidate b", " |---|"),
            (f"incr 1 = {i + 1}" if i % 2 else "touch = yes", " |--|"),
        )]  # fmt: skip
    assert explain(drawn("\n".join(lines)), evicts=True) is None
