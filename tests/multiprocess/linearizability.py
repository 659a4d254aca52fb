"""Is there an order of steps that explains what one key's operations returned?

A history is operations of several processes, each with the times at which it was called and at
which it returned. All steps of all operations, as specification.py has them, must have one order
that keeps to these times and gives every answer (linearizability: Herlihy and Wing 1990). An
operation whose process was killed ends with it, and has taken all of its steps, or some of the
first, or none.

The search goes through time and keeps all states that the cache may be in (Wing and Gong 1993,
with the states of Lowe 2017): when an operation returns, it must have taken its steps in each.
Clocks are renumbered by what can still be told apart, so that equal states meet.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from specification import EVERYTHING, FINISHED, OWN, Entry, Key, Note, Op, State, Step, lived


class Phase(NamedTuple):
    opens: int
    closes: int
    steps: int


class Task(NamedTuple):
    op: Op
    steps: list[Step]
    phases: list[Phase]


# A task that has begun: its number, how many of its steps are done, and its note.
Progress = tuple[tuple[int, int, Note], ...]
Config = tuple[State, Progress]


class Unexplained(NamedTuple):
    """The first operation whose return nothing explains."""

    op: Op
    states: list[State]
    """What the cache may have held before it."""
    around: list[Op]
    """The operations that were still open, or had closed last."""

    def __str__(self) -> str:
        lines = ["no order explains", f"  {self.op}", "after"]
        lines += [f"  {op}" for op in self.around]
        lines += ["when the key may have been", *(f"  {state}" for state in self.states[:20])]
        return "\n".join(lines)


def task_of(op: Op, key: Key) -> Task:
    steps = key.steps(op)
    if op.kind != "fill":
        return Task(op, steps, [Phase(op.opens, op.closes, len(steps))])
    return Task(op, steps, [Phase(*op.stamped, 1), Phase(op.opens, op.closes, 1)])


class Search:
    def __init__(self, ops: Sequence[Op], evicts: bool) -> None:
        key = Key(evicts)
        # A read of a killed process leaves nothing.
        self.tasks = [
            task_of(op, key) for op in ops if not op.killed or op.kind not in ("get", "touch")
        ]
        tags = 2 + max((tag for op in ops for tag in op.tags), default=0)
        start = State(None, 0, (0,) * tags)
        self.configs: set[Config] = {(start, ())}
        self.opened: dict[int, int] = {}  # how many steps each open task may have taken
        self.most = 1

    def explain(self) -> Unexplained | None:
        events = []
        for number, task in enumerate(self.tasks):
            done = 0
            for phase in task.phases:
                events.append((phase.opens, 0, number, done + phase.steps))
                done += phase.steps
                events.append((phase.closes, 1, number, done))
        for _, closes, number, steps in sorted(events):
            if not closes:
                self.opened[number] = steps
            elif self.tasks[number].op.killed and steps == len(self.tasks[number].steps):
                self.forget(number, self.reachable())
            elif not self.close(number, steps):
                return self.unexplained(number)
        return None

    def close(self, number: int, steps: int) -> bool:
        """The task must have taken so many steps by now."""
        task = self.tasks[number]
        configs = self.reachable(until=(number, steps))
        if not configs:
            return False
        if steps == len(task.steps):
            self.forget(number, configs)
        else:
            self.configs = {normal(config) for config in configs}
        return True

    def forget(self, number: int, configs: Iterable[Config]) -> None:
        """The task is over: whatever it has done is in the state."""
        del self.opened[number]
        self.configs = {
            normal((state, tuple(p for p in progress if p[0] != number)))
            for state, progress in configs
        }
        self.most = max(self.most, len(self.configs))

    def reachable(self, until: tuple[int, int] | None = None) -> set[Config]:
        """All that open tasks can make of the configurations; only those in which one is so far."""
        todo = list(self.configs)
        seen, found = set(todo), set()
        while todo:
            config = todo.pop()
            if until is None or done_in(config[1], until[0]) >= until[1]:
                found.add(config)
                if until is not None:
                    continue
            for after in self.successors(config):
                if after not in seen:
                    seen.add(after)
                    todo.append(after)
        return found

    def successors(self, config: Config) -> Iterable[Config]:
        state, progress = config
        begun = {number: (done, note) for number, done, note in progress}
        for number, opened in self.opened.items():
            done, note = begun.get(number, (0, FINISHED))
            if done >= opened:
                continue
            steps = self.tasks[number].steps
            others = [p for p in progress if p[0] != number]
            for after, noted in steps[done](state, note):
                now = len(steps) if noted is FINISHED else done + 1
                left = FINISHED if now == len(steps) else noted
                yield after, tuple(sorted([*others, (number, now, left)], key=by_number))

    def unexplained(self, number: int) -> Unexplained:
        op = self.tasks[number].op
        before = [t.op for t in self.tasks if t.op.opens <= op.closes and t.op is not op]
        before.sort(key=lambda other: other.closes)
        return Unexplained(op, sorted({c[0] for c in self.configs}, key=str), before[-24:])


def by_number(progress: tuple[int, int, Note]) -> int:
    return progress[0]


def done_in(progress: Progress, number: int) -> int:
    for other, done, _ in progress:
        if other == number:
            return done
    return 0


def normal(config: Config) -> Config:
    """The same with the smallest clocks that are ordered alike, as far as that can matter.

    Stamps that somebody has get odd numbers. A tag's clock gets the even one below the first of
    them that it does not exceed: against those to come it counts as nothing.
    """
    state, progress = config
    entry = state.entry
    if entry is not None and entry.deps is not None and not lived(state, entry):
        entry = entry._replace(deps=None)
    held = [] if entry is None else [entry.stamp]
    for _, _, note in progress:
        if note.stamp is not None:
            held.append(note.stamp)
        if note.entry is not None:
            held.append(note.entry.stamp)
    stamps = sorted(set(held))

    def of_stamp(stamp: int) -> int:
        return 2 * bisect_left(stamps, stamp) + 1

    def of_clock(clock: int) -> int:
        return 2 * bisect_left(stamps, clock)

    def of_entry(entry: Entry | None) -> Entry | None:
        return None if entry is None else entry._replace(stamp=of_stamp(entry.stamp))

    clock = of_stamp(state.clock) if state.clock in stamps else of_clock(state.clock)
    after = State(of_entry(entry), clock, tuple(of_clock(c) for c in state.raised))
    return after, tuple(
        (
            number,
            done,
            note
            if note is FINISHED
            else Note(
                None if note.stamp is None else of_stamp(note.stamp),
                None if note.tick is None else of_clock(note.tick),
                of_entry(note.entry),
                note.value,
            ),
        )
        for number, done, note in progress
    )


def explain(ops: Sequence[Op], *, evicts: bool) -> Unexplained | None:
    """None if some order explains the operations of one key, on which there was nothing before."""
    return Search(ops, evicts).explain()


def stale(ops: Sequence[Op]) -> tuple[Op, Op] | None:
    """Promise 1, looked at by itself: a read, and the invalidation that it should have seen.

    The invalidation had returned before the read was called, and what the read found was begun
    before the invalidation was called.
    """
    begun: dict[int, tuple[int, tuple[int, ...]]] = {}  # by value: when at the latest, its tags
    for op in sorted(ops, key=lambda op: op.opens):
        if op.kind in ("set", "add", "replace", "fill"):
            latest = op.stamped[1] if op.kind == "fill" else op.closes
            begun[op.value] = latest, (EVERYTHING, OWN, *op.tags)
    derived: dict[int, int] = {}
    for op in ops:
        if op.kind == "compare_and_set":
            derived[op.value] = op.expected
        elif op.kind == "incr" and op.result is not None:
            derived[op.result] = op.result - op.value
    drops: dict[int, list[Op]] = {}
    for op in ops:
        if op.killed or op.kind not in ("invalidate", "clear", "delete"):
            continue
        for tag in {"clear": (EVERYTHING,), "delete": (OWN,)}.get(op.kind, op.tags):
            drops.setdefault(tag, []).append(op)
    latest_drop = {tag: _prefix_maxima(found) for tag, found in drops.items()}
    for op in ops:
        read = _read_by(op)
        if read is None:
            continue
        while read not in begun and read in derived:
            read = derived[read]
        if read not in begun:
            continue  # by an incr that was killed; the order of steps judges that
        latest, tags = begun[read]
        for tag in tags:
            closes, newest = latest_drop.get(tag, ([], []))
            at = bisect_left(closes, op.opens)
            if at and newest[at - 1].opens > latest:
                return op, newest[at - 1]
    return None


def _read_by(op: Op) -> int | None:
    if op.killed:
        return None
    if op.kind == "get":
        return op.result
    if op.kind == "incr" and op.result is not None:
        return op.result - op.value
    return op.expected if op.kind == "compare_and_set" and op.result else None


def _prefix_maxima(drops: list[Op]) -> tuple[list[int], list[Op]]:
    """The ends of invalidations in order, and of all up to each the one that was called last."""
    drops = sorted(drops, key=lambda op: op.closes)
    newest: list[Op] = []
    for op in drops:
        newest.append(op if not newest or op.opens > newest[-1].opens else newest[-1])
    return [op.closes for op in drops], newest
