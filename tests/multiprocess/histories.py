"""Records what processes do to a few keys at once, some of them killed, and has it explained.

    python histories.py SEGMENT SECONDS SEED [MISUSE]

Rounds of some milliseconds: workers are forked, work on keys and tags that are new in each round,
and end, or are killed and succeeded. Each writes down what it is about to do before it does it, in
memory that outlives it. What all of them did to a key is a history, which linearizability.py must
be able to explain. Half of the rounds are in a segment whose logs lap every few dozen operations,
where entries may vanish; the others in one that has room for everything, where none may. Prints its
totals as JSON and exits with 0, or what nothing explains and exits with 1.

MISUSE has the workers lie, so that somebody must notice: `late-stamp` takes a fill's stamp when it
stores, `no-invalidate` says that it has invalidated and has not, `no-delete` likewise, `swap`
stores another value than it says, `lost-update` adds to a number by a get and a replace.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from linearizability import explain, stale
from specification import STORED, Op
from storm import die_with

from zoocache.shm import MIN_SIZE, Cache, Outcome, Segment, unlink

WORKERS = 4
SUCCESSORS = 4  # of those that are killed in a round
OPERATIONS = 300  # of one process, at most
KEYS = 3
SOON = 0.00002  # seconds: an alarm that is to ring in an operation rings so soon after its start
ROOMY = 16 << 20  # bytes: nothing is ever evicted
STUCK_AFTER = 20.0  # seconds
LEAST_ROUNDS = 24

# Of a record: a word each. OPENS is written before the call, and CLOSES last.
WORDS = 8
WHAT, VALUE, EXPECTED, STAMPING, STAMPED, OPENS, CLOSES, RESULT = range(WORDS)
NOTHING = -1  # for None
APART = 100_000  # values are so far apart: more than is ever added to one

KINDS = ("get", "set", "add", "replace", "delete", "incr", "compare_and_set", "fill", "invalidate",
         "clear", "touch")  # fmt: skip
GET, SET, ADD, REPLACE, DELETE, INCR, SWAP, FILL, INVALIDATE, CLEAR, TOUCH = range(len(KINDS))
MIX = (
    [GET] * 8 + [SET] * 3 + [ADD] * 3 + [REPLACE] * 2 + [DELETE] * 2 + [INCR] * 3 + [SWAP] * 2
    + [FILL] * 3 + [INVALIDATE] * 2 + [TOUCH]
)  # fmt: skip

# Tags by their names, and by the numbers of what an entry then depends on.
A, A_B, C = 2, 3, 4
STORED_WITH = [((), ()), (("a",), (A,)), (("a:b",), (A, A_B)), (("a:b", "c"), (A, A_B, C))]
INVALIDATED = [(("a",), (A,)), (("a:b",), (A_B,)), (("c",), (C,)), (("c", "a:b"), (C, A_B))]

OUTCOMES = {int(outcome): outcome.name.lower().replace("_", " ") for outcome in Outcome}

_libc = ctypes.CDLL(None)


class Wrong(Exception):
    """Nothing explains what was recorded, or somebody is stuck."""


class Round(NamedTuple):
    """What the workers of one round share."""

    number: int
    cache: Cache
    laps: bool
    kills: bool
    records: memoryview
    go: memoryview
    misuse: str


class Planned(NamedTuple):
    """An operation that a worker is going to do."""

    what: int
    kind: int
    number: int
    key: bytes
    value: int
    tags: list[str]
    is_seen: bool
    """Does a compare-and-set to come take this value for what is there?"""
    alarm: float
    """Seconds until it is interrupted; 0: it is not."""
    lap: bytes | None


class Worker:
    """One process; `index` counts those of the round."""

    def __init__(self, shared: Round, index: int, seed: str) -> None:
        self.cache = shared.cache
        self.shared = shared
        self.first = index * OPERATIONS * WORDS
        self.seen = [0] * KEYS
        self.filler = bytes(self.cache.segment.max_record - 200)  # some eight of them are a lap
        rng = random.Random(seed)
        self.dies_at = rng.randrange(OPERATIONS) if shared.kills and index else None
        # All chance is drawn before the start: most of the time that is left is the core's.
        self.plan = [self.draw(rng, index * OPERATIONS + n) for n in range(OPERATIONS)]

    def draw(self, rng: random.Random, n: int) -> Planned:
        kind = CLEAR if rng.randrange(400) == 0 else rng.choice(MIX)
        number, choice = rng.randrange(KEYS), rng.randrange(len(STORED_WITH))
        names = (INVALIDATED if kind == INVALIDATE else STORED_WITH)[choice][0]
        laps = self.shared.laps and rng.randrange(4) == 0
        return Planned(
            kind | number << 8 | choice << 16,
            kind,
            number,
            b"%d:%d" % (self.shared.number, number),
            rng.randrange(1, 4) if kind == INCR else (n + 1) * APART,
            [f"{self.shared.number}{name}" for name in names],
            rng.randrange(2) == 0,
            rng.random() * SOON if rng.randrange(3) == 0 else 0.0,
            b"filler %d" % rng.randrange(20) if laps else None,
        )

    def run(self) -> None:
        """An alarm puts the worker to sleep for some microseconds, wherever it is, or kills it.

        On few processors, and busy ones, hardly any operation would be overtaken or killed within
        otherwise. The handler is libc's usleep(), called with the signal's number: no Python runs
        in it. Without a handler the kernel ends the process where it is, as kill -9 does.
        """
        _libc.signal(signal.SIGALRM, ctypes.cast(_libc.usleep, ctypes.c_void_p))
        while not self.shared.go[0]:
            os.sched_yield()
        at = self.first
        for n, planned in enumerate(self.plan):
            if n == self.dies_at:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                planned = planned._replace(alarm=planned.alarm or SOON)
            self.operate(self.shared.records[at : at + WORDS], planned)
            at += WORDS
            if planned.lap is not None:
                self.cache.set(planned.lap, self.filler)

    def operate(self, record: memoryview, planned: Planned) -> None:
        what, kind, n, key, value, tags, is_seen, alarm, _ = planned
        expected = self.seen[n]
        record[WHAT] = what
        record[VALUE] = value
        record[EXPECTED] = expected
        stamp = 0
        if alarm:
            signal.setitimer(signal.ITIMER_REAL, alarm)
        if kind == FILL:
            record[STAMPING] = time.monotonic_ns()
            stamp = self.cache.stamp()
            record[STAMPED] = time.monotonic_ns()
        record[OPENS] = time.monotonic_ns()
        result = self.call(kind, key, value, expected, tags, stamp)
        record[RESULT] = NOTHING if result is None else int(result)
        record[CLOSES] = time.monotonic_ns()
        if kind in (GET, INCR) and result:
            self.seen[n] = int(result)
        elif kind != TOUCH and is_seen:
            self.seen[n] = value

    def call(
        self, kind: int, key: bytes, value: int, expected: int, tags: list[str], stamp: int
    ) -> int | bytes | None:
        cache, misuse = self.cache, self.shared.misuse
        if kind == GET:
            return cache.get(key)
        if kind == SET:
            return cache.set(key, b"%d" % (value - (misuse == "swap")), tags=tags)
        if kind == ADD:
            return cache.add(key, b"%d" % value, tags=tags)
        if kind == REPLACE:
            return cache.replace(key, b"%d" % value, tags=tags)
        if kind == DELETE:
            return misuse != "no-delete" and cache.delete(key)
        if kind == INCR:
            if misuse == "lost-update":
                return self.lose_an_update(key, value)
            return cache.incr(key, value)
        if kind == SWAP:
            return cache.compare_and_set(key, b"%d" % expected, b"%d" % value)
        if kind == FILL:
            stamp = cache.stamp() if misuse == "late-stamp" else stamp
            return cache.fill(key, b"%d" % value, stamp, tags=tags)
        if kind == INVALIDATE:
            return None if misuse == "no-invalidate" else cache.invalidate(*tags)
        if kind == CLEAR:
            return cache.clear()
        return cache.touch(key)

    def lose_an_update(self, key: bytes, delta: int) -> int | None:
        found = self.cache.get(key)
        if found is None or not self.cache.replace(key, b"%d" % (int(found) + delta)):
            return None
        return int(found) + delta


def operations_of(records: memoryview, index: int, died: int) -> Iterator[tuple[int, Op]]:
    """What a process has written down, with the number of the key."""
    for at in range(index * OPERATIONS * WORDS, (index + 1) * OPERATIONS * WORDS, WORDS):
        what, value, expected, stamping, stamped, opens, closes, result = records[at : at + WORDS]
        if not opens:
            return
        kind, key, choice = what & 0xFF, what >> 8 & 0xFF, what >> 16
        tags: tuple[int, ...] = ()
        if kind in (SET, ADD, REPLACE, FILL):
            tags = STORED_WITH[choice][1]
        elif kind == INVALIDATE:
            tags = INVALIDATED[choice][1]
        yield key, Op(
            KINDS[kind], opens, closes or died,
            result=meaning(kind, result) if closes else None,
            value=value if kind in (SET, ADD, REPLACE, INCR, SWAP, FILL) else 0,
            expected=expected if kind == SWAP else 0,
            tags=tags, stamped=(stamping, stamped), killed=not closes, process=index,
        )  # fmt: skip


def meaning(kind: int, result: int) -> object:
    if kind in (SET, FILL):
        return OUTCOMES[result]
    if kind in (GET, INCR):
        return None if result == NOTHING else result
    return None if kind in (INVALIDATE, CLEAR) else bool(result)


def histories(ops: list[tuple[int, Op]]) -> Iterator[list[Op]]:
    """Each key's: what was done to it, and all invalidations; a delete of another key ticks."""
    for key in range(KEYS):
        history = []
        for number, op in ops:
            if number == key or op.kind in ("invalidate", "clear"):
                history.append(op)
            elif op.kind == "delete":
                history.append(op._replace(kind="tick", result=None))
        yield history


def overlapping(history: list[Op]) -> int:
    """How many began before another had ended."""
    last, n = 0, 0
    for op in sorted(history, key=lambda op: op.opens):
        n += op.opens < last
        last = max(last, op.closes)
    return n


def new_cache(name: str, size: int) -> Cache:
    unlink(name)  # an earlier run's keys may be in it
    return Cache(Segment(name, size))


class Recorder:
    def __init__(self, name: str, seed: str, misuse: str) -> None:
        self.tiny, self.roomy = new_cache(name, MIN_SIZE), new_cache(f"{name}-roomy", ROOMY)
        self.seed = seed
        self.misuse = misuse
        words = (WORKERS + SUCCESSORS) * OPERATIONS * WORDS
        self.records = memoryview(mmap.mmap(-1, 8 * words)).cast("q")
        self.go = memoryview(mmap.mmap(-1, 8)).cast("q")
        self.totals: Counter[str] = Counter()

    def run(self, seconds: float) -> dict[str, int]:
        end = time.monotonic() + seconds
        while time.monotonic() < end or self.totals["rounds"] < LEAST_ROUNDS:
            self.round(self.totals["rounds"])
        for cache in (self.tiny, self.roomy):
            report = cache.segment.check()
            if not report.sound:
                raise Wrong(f"the segment is not sound: {report}")
        return dict(self.totals)

    def round(self, number: int) -> None:
        laps, kills = number % 2 == 0, number % 4 < 2
        self.records[:] = memoryview(bytes(self.records.nbytes)).cast("q")
        cache = self.tiny if laps else self.roomy
        died = self.work(Round(number, cache, laps, kills, self.records, self.go, self.misuse))
        ops = [pair for n, at in died.items() for pair in operations_of(self.records, n, at)]
        self.totals["rounds"] += 1
        self.totals["operations"] += len(ops)
        self.totals["killed_within"] += sum(op.killed for _, op in ops)
        for history in histories(ops):
            self.judge(history, laps)

    def work(self, shared: Round) -> dict[int, int]:
        """Returns when each process was seen to be dead."""
        self.go[0] = 0
        running = {self.spawn(shared, index): index for index in range(WORKERS)}
        self.go[0] = 1
        died: dict[int, int] = {}
        deadline = time.monotonic() + STUCK_AFTER
        while running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                if time.monotonic() > deadline:
                    raise Wrong(f"{len(running)} workers do not end")
                time.sleep(0.0002)
                continue
            died[running.pop(pid)] = time.monotonic_ns()
            if status not in (0, signal.SIGALRM):
                raise Wrong(f"a worker ended with status {status}: see above")
            born = len(died) + len(running)
            if status == signal.SIGALRM:
                self.totals["kills"] += 1
                if born < WORKERS + SUCCESSORS:
                    running[self.spawn(shared, born)] = born
        return died

    def spawn(self, shared: Round, index: int) -> int:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                die_with(parent)
                Worker(shared, index, f"{self.seed} {shared.number} {index}").run()
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
        return pid

    def judge(self, history: list[Op], laps: bool) -> None:
        where = "that laps" if laps else "with room"
        if (found := stale(history)) is not None:
            raise Wrong(f"stale, in a segment {where}:\n  {found[0]}\nafter\n  {found[1]}")
        if (unexplained := explain(history, evicts=laps)) is not None:
            raise Wrong(f"in a segment {where}, {unexplained}")
        self.totals["histories"] += 1
        self.totals["overlapping"] += overlapping(history)
        for op in history:
            self.totals["hits"] += op.kind == "get" and op.result is not None
            self.totals["adds_won"] += op.kind == "add" and op.result is True
            self.totals["fills_stored"] += op.kind == "fill" and op.result == STORED


def main(name: str, seconds: str, seed: str, misuse: str = "") -> None:
    try:
        print(json.dumps(Recorder(name, seed, misuse).run(float(seconds))))
    except Wrong as wrong:
        sys.exit(f"{wrong}\n(seed {seed!r})")


if __name__ == "__main__":
    main(*sys.argv[1:])
