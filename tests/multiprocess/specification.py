"""What operations on one key of a cache may do and answer, step by step.

A key has one entry or none; an entry has a value, a stamp, and tags. A clock counts invalidations,
and each tag has the clock of its last one. An entry whose stamp is below the clock of one of its
tags is dead: it is not served any more, and never comes back. Each operation takes a step or a few,
each at one moment between its call and its return:

    get, touch, incr,      one step, if they find the entry; otherwise two: they look, and what
    compare_and_set        they saw, if anything, is dead by the time of the second
    set                    takes a stamp; stores
    add                    takes a stamp; stores, if there is no entry that lives and its own would
    replace                takes a stamp; finds an entry that lives; stores, if that is still there
    fill                   takes a stamp, in a call of its own; stores, unless the entry is newer
    invalidate, clear      ticks the clock; raises one tag after the other to it
    delete                 ticks the clock; raises the key's own tag; takes away what is dead

So an invalidation has two moments: what was begun before the first is gone from the second on.
With `evicts`, an entry may vanish at any moment; an entry that vanished does not come back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

# What an entry may depend on, by number. `clear` raises the first, `delete` the second.
EVERYTHING, OWN = 0, 1

STORED, BORN_DEAD, OLDER = "stored", "born dead", "older"


class Op(NamedTuple):
    """One operation. Times are nanoseconds of a clock that all processes share."""

    kind: str
    opens: int
    closes: int
    result: Any = None
    value: int = 0
    """What it stores, or adds."""
    expected: int = 0
    tags: tuple[int, ...] = ()
    """Of what it stores, prefixes included; or those that it invalidates, in their order."""
    stamped: tuple[int, int] = (0, 0)
    """A fill's: when stamp() was called and returned."""
    killed: bool = False
    """It has no result, and closed when its process was seen to be dead."""
    process: int = 0

    def __str__(self) -> str:
        what = [self.kind, *(str(n) for n in (self.expected, self.value) if n)]
        what += [f"tags {self.tags}"] if self.tags else []
        what += [f"stamped {self.stamped}"] if any(self.stamped) else []
        end = "killed" if self.killed else f"= {self.result}"
        return f"{self.opens} to {self.closes}, process {self.process}: {' '.join(what)} {end}"


class Entry(NamedTuple):
    value: int
    stamp: int
    deps: tuple[int, ...] | None
    """None: it is dead, and was so before its key was deleted."""
    explicit: bool
    """Set, not filled: newer than a fill of the same stamp."""


class State(NamedTuple):
    entry: Entry | None
    clock: int
    raised: tuple[int, ...]
    """The clock of each tag's last invalidation."""


class Note(NamedTuple):
    """What an operation remembers between its steps."""

    stamp: int | None = None
    tick: int | None = None
    entry: Entry | None = None
    value: int | None = None


FINISHED = Note()  # no step that is left does anything
Step = Callable[[State, Note], Iterable[tuple[State, Note]]]


def lives(state: State, entry: Entry | None) -> bool:
    if entry is None or entry.deps is None:
        return False
    return is_fresh(state, entry.stamp, entry.deps)


def lived(state: State, entry: Entry | None) -> bool:
    """Did it live but for a delete of its key?"""
    if entry is None or entry.deps is None:
        return False
    return is_fresh(state, entry.stamp, tuple(dep for dep in entry.deps if dep != OWN))


def is_fresh(state: State, stamp: int | None, deps: tuple[int, ...]) -> bool:
    assert stamp is not None
    return all(state.raised[d] <= stamp for d in deps)


def is_newer(entry: Entry | None, stamp: int | None) -> bool:
    assert stamp is not None
    return entry is not None and (entry.stamp > stamp or (entry.stamp == stamp and entry.explicit))


def take_stamp(state: State, note: Note) -> Iterable[tuple[State, Note]]:
    return ((state, Note(stamp=state.clock)),)


def tick(state: State, note: Note) -> Iterable[tuple[State, Note]]:
    clock = state.clock + 1
    return ((state._replace(clock=clock), Note(tick=clock)),)


class Key:
    """The steps of operations on one key."""

    def __init__(self, evicts: bool) -> None:
        self.evicts = evicts

    def steps(self, op: Op) -> list[Step]:
        make: Callable[[Op], list[Step]] = getattr(self, op.kind)
        return make(op)

    # What finds nothing: what it saw may have been replaced before it dies.

    def _absent(self, op: Op) -> list[Step]:
        def look(state: State, note: Note) -> Iterable[tuple[State, Note]]:
            if not lives(state, state.entry):
                return ((state, FINISHED),)
            seen = (state, Note(entry=state.entry))
            return (seen, (state._replace(entry=None), FINISHED)) if self.evicts else (seen,)

        def judge(state: State, note: Note) -> Iterable[tuple[State, Note]]:
            return () if lives(state, note.entry) else ((state, FINISHED),)

        return [look, judge]

    def get(self, op: Op) -> list[Step]:
        if op.result is None:
            return self._absent(op)
        return [self._on_entry(lambda entry: entry if entry.value == op.result else None)]

    def _on_entry(self, change: Callable[[Entry], Entry | None]) -> Step:
        """For one step that finds a living entry and makes another of it."""

        def step(state: State, note: Note) -> Iterable[tuple[State, Note]]:
            if state.entry is None or not lives(state, state.entry):
                return ()
            changed = change(state.entry)
            return () if changed is None else ((state._replace(entry=changed), FINISHED),)

        return step

    def touch(self, op: Op) -> list[Step]:
        return [self._on_entry(lambda entry: entry)] if op.result else self._absent(op)

    def incr(self, op: Op) -> list[Step]:
        def change(entry: Entry) -> Entry | None:
            changed = entry._replace(value=entry.value + op.value)
            return changed if op.killed or changed.value == op.result else None

        return self._absent(op) if not op.killed and op.result is None else [self._on_entry(change)]

    def compare_and_set(self, op: Op) -> list[Step]:
        def change(entry: Entry) -> Entry | None:
            return entry._replace(value=op.value) if entry.value == op.expected else None

        if op.killed or op.result:
            return [self._on_entry(change)]
        look, judge = self._absent(op)

        def look_or_differ(state: State, note: Note) -> Iterable[tuple[State, Note]]:
            if lives(state, state.entry) and state.entry and state.entry.value != op.expected:
                return ((state, FINISHED),)
            return look(state, note)

        return [look_or_differ, judge]

    # What stores an entry of its own.

    @staticmethod
    def _store(op: Op, state: State, note: Note) -> tuple[State, Note]:
        assert note.stamp is not None
        deps = (EVERYTHING, OWN, *op.tags)
        entry = Entry(op.value, note.stamp, deps, op.kind != "fill")
        return state._replace(entry=entry), FINISHED

    def set(self, op: Op) -> list[Step]:
        if not op.killed and op.result != STORED:
            return self.delete(op._replace(result=None))  # it leaves nothing
        return [take_stamp, lambda state, note: (self._store(op, state, note),)]

    def add(self, op: Op) -> list[Step]:
        deps = (EVERYTHING, OWN, *op.tags)

        def store(state: State, note: Note) -> Iterable[tuple[State, Note]]:
            free = self.evicts or not lives(state, state.entry)
            may = free and is_fresh(state, note.stamp, deps)
            return (self._store(op, state, note),) if may else ()

        def refuse(state: State, note: Note) -> Iterable[tuple[State, Note]]:
            refused = lives(state, state.entry) or not is_fresh(state, note.stamp, deps)
            return ((state, FINISHED),) if refused else ()

        return [take_stamp, store if op.killed or op.result else refuse]

    def replace(self, op: Op) -> list[Step]:
        def find(state: State, note: Note) -> Iterable[tuple[State, Note]]:
            if state.entry is None or not lives(state, state.entry):
                return ()
            return ((state, note._replace(value=state.entry.value)),)

        def store(state: State, note: Note) -> Iterable[tuple[State, Note]]:
            still = state.entry is not None and state.entry.value == note.value
            return (self._store(op, state, note),) if still else ()

        return [take_stamp, find, store] if op.killed or op.result else self._absent(op)

    def fill(self, op: Op) -> list[Step]:
        deps = (EVERYTHING, OWN, *op.tags)

        def end(state: State, note: Note) -> Iterable[tuple[State, Note]]:
            newer = is_newer(state.entry, note.stamp)
            if op.killed or op.result == STORED:
                # It may have been invalidated since it was looked at: then it is stored dead.
                return (self._store(op, state, note),) if self.evicts or not newer else ()
            if op.result == OLDER:
                return ((state, FINISHED),) if newer else ()
            if op.result == BORN_DEAD:
                return () if is_fresh(state, note.stamp, deps) else ((state, FINISHED),)
            return ((state, FINISHED),)

        return [take_stamp, end]

    # What makes entries stale.

    def tick(self, op: Op) -> list[Step]:
        """An invalidation of what is not this key's."""
        return [tick]

    def invalidate(self, op: Op) -> list[Step]:
        def raiser(tag: int) -> Step:
            return lambda state, note: ((self._raise(state, note, tag), note),)

        return [tick, *(raiser(tag) for tag in op.tags)]

    def clear(self, op: Op) -> list[Step]:
        return self.invalidate(op._replace(tags=(EVERYTHING,)))

    @staticmethod
    def _raise(state: State, note: Note, tag: int) -> State:
        assert note.tick is not None
        raised = list(state.raised)
        raised[tag] = max(raised[tag], note.tick)
        return state._replace(raised=tuple(raised))

    def delete(self, op: Op) -> list[Step]:
        def raise_own(state: State, note: Note) -> Iterable[tuple[State, Note]]:
            killed = state.entry if lives(state, state.entry) else None
            after = self._raise(state, note, OWN)
            return ((after, Note(value=None if killed is None else killed.value)),)

        def remove(state: State, note: Note) -> Iterable[tuple[State, Note]]:
            entry = state.entry
            is_dead = entry is not None and entry.stamp < state.raised[OWN]
            removed = (state._replace(entry=None), FINISHED)
            if op.killed or op.result is None:
                return (removed if is_dead else (state, FINISHED),)
            was_live = is_dead and lived(state, entry)
            if op.result:
                return (removed,) if was_live else ()
            if is_dead and not was_live:
                return (removed,)
            left = entry is not None and entry.value == note.value and not self.evicts
            return () if left else ((state, FINISHED),)  # somebody else took it, or replaced it

        return [tick, raise_own, remove]
