"""A segment is resized, unlinked or removed under processes that read, write and invalidate in it.

The oracle is a file that all of them have mapped and that is no part of the segment. It has a
version for each row: a write raises it, invalidates the row's tag, and then acknowledges it. A
read looks first at what is acknowledged: it must not get an older version.
"""

from __future__ import annotations

import contextlib
import mmap
import multiprocessing
import os
import random
import secrets
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import zoocache
from zoocache import cacheable, config, store
from zoocache.exceptions import SegmentRetiredError
from zoocache.shm import MIN_SIZE, Cache, Outcome, Segment, path_of, resize, unlink
from zoocache.shm.intent import End, Intent

SOON = 20  # seconds in which whatever waits for nothing must be over
WORKERS = ["fork", "fork", "spawn", "spawn"]
ROWS = 4 * len(WORKERS)  # each has one writer
SIZES = [MIN_SIZE, 2 * MIN_SIZE, 3 * MIN_SIZE]

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


class Board:
    """Arrays of 64-bit words in a file. Each word has one writer."""

    def __init__(self, path: Path) -> None:
        n = len(WORKERS)
        sizes = {"row": ROWS, "acked": ROWS, "operations": n, "hits": n, "writes": n, "seen": n,
                 "lenient": 1, "stop": 1}  # fmt: skip
        with path.open("a+b") as file:
            file.truncate(8 * sum(sizes.values()))
            words = memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")
        at = 0
        for name, size in sizes.items():
            setattr(self, name, words[at : at + size])
            at += size

    row: memoryview
    acked: memoryview
    operations: memoryview
    hits: memoryview
    writes: memoryview
    seen: memoryview  # the last beacon, which is in the newest segment
    lenient: memoryview  # while this is odd, what is read may be old
    stop: memoryview


_board: Board
_computed = 0


@cacheable(deps=lambda n: [f"row:{n}"])
def version(n: int) -> int:
    global _computed
    _computed += 1
    return _board.row[n]


def read(n: int) -> None:
    lenient, floor, before = _board.lenient[0], _board.acked[n], _computed
    found = version(n)
    if found < floor and lenient == _board.lenient[0] and lenient % 2 == 0:
        raise AssertionError(f"stale: row {n} was {found}, and {floor} is acknowledged")
    _board.hits[_me] += _computed == before


def write(n: int) -> None:
    new = _board.row[n] + 1
    _board.row[n] = new
    zoocache.invalidate(f"row:{n}")
    _board.acked[n] = new
    _board.writes[_me] += 1


def look_for_the_beacon() -> None:
    cache = store.cache()
    assert cache is not None, "the segment could not be opened"
    _board.seen[_me] = int(cache.get("beacon") or 0)


def work(path: Path, name: str, me: int, seed: str) -> None:
    global _board, _me
    _board, _me = Board(path), me
    signal.alarm(5 * SOON)  # whatever becomes of the test
    store._frameworks.clear()  # forked, it may have one of another test's
    zoocache.configure(name=name, size=2 * MIN_SIZE)
    rng = random.Random(f"{seed} {me}")
    mine = range(me, ROWS, len(WORKERS))
    try:
        while not _board.stop[0]:
            for _ in range(20):
                write(rng.choice(mine)) if rng.random() < 0.1 else read(rng.randrange(ROWS))
                _board.operations[me] += 1
            look_for_the_beacon()
    except BaseException:
        path.with_suffix(f".{me}").write_text(traceback.format_exc())
        os._exit(1)


class Crew:
    def __init__(self, path: Path, name: str, seed: str) -> None:
        self.name, self.path, self.board = name, path, Board(path)
        self.beacon = 0
        self.processes = []
        for me, how in enumerate(WORKERS):
            context: Any = multiprocessing.get_context(how)
            process = context.Process(target=work, args=(path, name, me, seed), daemon=True)
            process.start()
            self.processes.append(process)

    def complaints(self) -> list[str]:
        files = [self.path.with_suffix(f".{me}") for me in range(len(WORKERS))]
        return [file.read_text() for file in files if file.exists()]

    def wait_until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + SOON
        while not condition():
            assert self.complaints() == []
            assert time.monotonic() < end, [list(self.board.seen), list(self.board.operations)]
            time.sleep(0.001)

    def all_move(self) -> None:
        """Everybody sees what is put into the segment that has the name now."""
        self.beacon += 1
        cache = Cache(Segment(self.name, 2 * MIN_SIZE))

        def seen() -> bool:  # it may have been evicted
            cache.set("beacon", b"%d" % self.beacon)
            return list(self.board.seen) == [self.beacon] * len(WORKERS)

        self.wait_until(seen)

    def all_hit(self) -> None:
        hits, writes = list(self.board.hits), list(self.board.writes)
        self.wait_until(
            lambda: (
                all(now > then for now, then in zip(self.board.hits, hits, strict=True))
                and all(now > then for now, then in zip(self.board.writes, writes, strict=True))
            )
        )

    def end(self) -> None:
        self.board.stop[0] = 1
        for process in self.processes:
            process.join(SOON)
            process.kill()
            process.join()

    def end_well(self) -> dict[str, int]:
        self.end()
        assert self.complaints() == []
        assert [process.exitcode for process in self.processes] == [0] * len(WORKERS)
        assert Segment(self.name).check().sound
        names = ("operations", "hits", "writes")
        return {name: sum(getattr(self.board, name)) for name in names}


@pytest.fixture
def name(short_name: str) -> str:
    return short_name


@pytest.fixture
def seed() -> str:
    seed = secrets.token_hex(4)
    print("seed", seed)
    return seed


@pytest.fixture
def crew(name: str, seed: str, tmp_path: Path) -> Iterator[Crew]:
    Segment(name, 2 * MIN_SIZE)
    crew = Crew(tmp_path / "board", name, seed)
    try:
        crew.all_move()
        crew.all_hit()
        yield crew
    finally:
        crew.end()


def test_resized_again_and_again(crew: Crew, evidence: Callable[..., None]) -> None:
    resizes = 60
    for n in range(resizes):
        old = Segment(crew.name)
        resize(crew.name, SIZES[n % 3])
        assert old.retired
        assert Segment(crew.name).size == SIZES[n % 3]
        crew.all_move()
        if n % 10 == 0:
            crew.all_hit()
    crew.all_hit()
    evidence("resized under live workers", resizes=resizes, **crew.end_well())


def test_resized_without_a_pause(crew: Crew, evidence: Callable[..., None]) -> None:
    """Nobody has moved when the next one comes."""
    bursts, each = 10, 4  # fewer than the successors that one invalidation follows
    for _ in range(bursts):
        for n in range(each):
            resize(crew.name, SIZES[n % 3])
        crew.all_move()
    crew.all_hit()
    evidence("resized without a pause", resizes=bursts * each, **crew.end_well())


def test_unlinked_again_and_again(crew: Crew, evidence: Callable[..., None]) -> None:
    unlinked = 0
    for _ in range(40):
        unlinked += unlink(crew.name)
        crew.all_move()
    crew.all_hit()
    assert unlinked == 40
    evidence("unlinked under live workers", unlinks=unlinked, **crew.end_well())


def test_its_file_is_removed(crew: Crew) -> None:
    """All end up in one segment, and nobody raises; meanwhile what is read may be old."""
    for _ in range(3):
        crew.board.lenient[0] += 1
        Path(path_of(crew.name)).unlink()
        crew.all_move()
        Cache(Segment(crew.name)).clear()  # what was invalidated apart from each other
        crew.board.lenient[0] += 1
        crew.all_hit()
    crew.end_well()


def test_a_resizer_is_killed_at_any_moment(
    crew: Crew, seed: str, evidence: Callable[..., None]
) -> None:
    rng = random.Random(seed)
    began = time.monotonic()
    resize(crew.name, MIN_SIZE)
    took = time.monotonic() - began
    killed = 0
    for n in range(120):
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                resize(crew.name, SIZES[n % 3])
                os._exit(0)
            os._exit(1)
        end = time.monotonic() + rng.random() * 1.5 * took
        while time.monotonic() < end:
            os.sched_yield()
        os.kill(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status in (0, -signal.SIGKILL)
        killed += status != 0
        if n % 10 == 9:
            crew.all_move()
    crew.all_hit()
    assert killed > 0
    figures = crew.end_well()
    resize(crew.name, MIN_SIZE)  # what the dead have left is in nobody's way
    assert not Path(path_of(crew.name) + ".next").exists()
    evidence("resizers killed", kills=killed, **figures)


# One step at a time: a commit that is announced holds the resizer up between the old
# segment's end and the successor's beginning.


@pytest.fixture
def old(name: str) -> Iterator[Cache]:
    """The cache of `zoocache.invalidate` in this process, in a segment with `row` in it."""
    frameworks, store._frameworks[:] = store._frameworks[:], []
    Segment(name, MIN_SIZE)
    zoocache.configure(name=name, size=2 * MIN_SIZE)
    cache = store.cache()
    assert cache is not None
    cache.fill("row", b"old", cache.stamp(), tags=["row"])
    yield cache
    config.clear_overrides()
    store._frameworks[:] = frameworks


@pytest.fixture
def resizer(old: Cache) -> Iterator[tuple[Intent, int]]:
    """A process that resizes `old` and waits for the commit; the segment is retired."""
    intent = old.intent()
    assert intent.announce(["elsewhere"], "session", 1.0)
    pid = os.fork()
    if pid == 0:
        signal.alarm(2 * SOON)
        with contextlib.suppress(BaseException):
            resize(old.segment.name, 2 * MIN_SIZE, wait=SOON)
            os._exit(0)
        os._exit(1)
    end = time.monotonic() + SOON
    while not old.segment.retired:
        assert time.monotonic() < end
        time.sleep(0.001)
    yield intent, pid
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def exit_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_an_invalidation_while_it_is_resized(old: Cache, resizer: tuple[Intent, int]) -> None:
    """It is carried over: nobody gets a value in the successor that was begun before."""
    intent, pid = resizer
    stamp = old.stamp()
    assert old.get("row") is None  # all of it is over
    begun = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        invalidating = pool.submit(lambda: (begun.set(), zoocache.invalidate("row")))
        assert begun.wait(SOON)
        assert intent.settle(End.ROLLED_BACK)
        assert exit_of(pid) == 0
        invalidating.result(SOON)
    new = store.cache()
    assert new is not None
    assert new.segment.size == 2 * MIN_SIZE
    assert new.get("row") is None
    assert stamp == 0
    assert new.fill("row", b"old", stamp, tags=["row"]) is Outcome.RETIRED
    assert new.stats()["invalidations"] == 1
    assert new.fill("row", b"new", new.stamp(), tags=["row"]) is Outcome.STORED
    assert old.get("row") is None


def test_a_stamp_from_before_the_resize_is_of_no_use_after_it(name: str) -> None:
    """Whether the fill goes to the old segment or to the new one."""
    old = Cache(Segment(name, MIN_SIZE))
    for _ in range(100):
        stamp = old.stamp()
        resize(name, MIN_SIZE)
        new = Cache(Segment(name))
        assert old.fill("row", b"old", stamp, tags=["row"]) is Outcome.RETIRED
        assert new.fill("row", b"old", stamp, tags=["row"]) is Outcome.BORN_DEAD
        assert new.get("row") is old.get("row") is None
        assert new.fill("row", b"new", new.stamp(), tags=["row"]) is Outcome.STORED
        old = new


def test_a_resizer_is_killed_after_the_end_of_the_old_one(
    old: Cache, resizer: tuple[Intent, int]
) -> None:
    """Whoever comes next makes the successor, and the invalidation is made there."""
    intent, pid = resizer
    os.kill(pid, signal.SIGKILL)
    assert exit_of(pid) == -signal.SIGKILL
    assert intent.settle(End.ROLLED_BACK)
    zoocache.invalidate("row")
    new = store.cache()
    assert new is not None
    assert not new.segment.retired
    assert new.get("row") is None
    assert new.fill("row", b"new", new.stamp(), tags=["row"]) is Outcome.STORED
    assert new.get("row") == b"new"
    assert old.get("row") is None


def opened_anew(before: Cache) -> Cache:
    """The file of a process that has just looked at it is removed, and another opens the name."""
    before.invalidate("elsewhere")
    assert before.get("absent") is None
    Path(path_of(before.segment.name)).unlink()
    after = Cache(Segment(before.segment.name, MIN_SIZE))
    after.fill("row", b"old", after.stamp(), tags=["row"])
    return after


@pytest.mark.parametrize(
    "drop",
    [lambda cache: cache.invalidate("row"), Cache.clear, lambda cache: cache.delete("row")],
    ids=["invalidate", "clear", "delete"],
)
def test_a_drop_right_after_the_file_was_removed(name: str, drop: Callable[[Cache], Any]) -> None:
    """It is not taken for done: others may have opened the name anew."""
    for _ in range(20):
        before = Cache(Segment(name, MIN_SIZE))
        after = opened_anew(before)
        with pytest.raises(SegmentRetiredError):
            drop(before)
        drop(after)
        assert after.get("row") is None


def test_a_commit_is_settled_right_after_the_file_was_removed(name: str) -> None:
    for _ in range(20):
        before = Cache(Segment(name, MIN_SIZE))
        intent = before.intent()
        assert intent.announce(["row"], "session", 1.0)
        opened_anew(before)
        assert not intent.settle(End.COMMITTED)  # so its tags are invalidated by the name
        assert not before.intent().announce(["row"], "session", 1.0)


def test_invalidate_after_the_file_was_removed(old: Cache) -> None:
    """The package's own does it again in the segment that has the name."""
    for _ in range(20):
        cache = store.cache()
        assert cache is not None
        after = opened_anew(cache)
        zoocache.invalidate("row")
        assert after.get("row") is None
