"""Real gunicorn, real workers, real HTTP: what one worker writes, no worker serves old.

Interleavings are forced: a request stops at a named point of its worker (see
site/things/barrier.py) while another worker does something else.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPException
from pathlib import Path

import gunicorn_site
import pytest
from gunicorn_site import Answer, Site, assert_all_show, assert_hits, run_python, wait_for
from site_checks import (
    READERS,
    WRITERS,
    Ledger,
    assert_goes_on,
    change,
    check_overtaken_fill,
    check_write_is_seen,
    load,
    new_name,
)

from zoocache.shm import Cache, Segment, path_of, unlink

KINDS = {
    "sync": ["--workers", "4"],
    "gthread": ["--workers", "2", "--worker-class", "gthread", "--threads", "2"],
}
# Where a fill stops. Before its read it will see the new row, and must not be kept either.
FILLS = [
    ("row", "fill:stamped", "before"),
    ("row", "fill:read", "after"),
    ("all", "fill:stamped", "before"),
    ("all", "fill:read", "after"),
    ("declared", "function:begun", "before"),
    ("declared", "function:read", "after"),
    ("added", "function:read", "after"),
    ("tracked", "fill:stamped", "before"),
    ("tracked", "fill:read", "after"),
    ("tracked", "function:read", "after"),
    ("outer", "fill:read", "after"),
    ("outer", "function:read", "after"),
    ("outer", "outer:read", "after"),
]


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("database") / "site.sqlite3"
    gunicorn_site.make_database(path)
    return path


@pytest.fixture(scope="module", params=KINDS)
def running(request, database, tmp_path_factory) -> Iterator[Site]:
    """One gunicorn of each kind for all tests that leave it as it was."""
    options = KINDS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    with Site(folder, database, new_name(), *options, workers=int(options[1])) as site:
        yield site


@pytest.fixture
def site(running) -> Iterator[Site]:
    seen = len(running.log)
    yield running
    print(running.log[seen:])  # pytest shows it if the test failed


@pytest.fixture
def start(tmp_path, database) -> Iterator[Callable[..., Site]]:
    """Starts a site of the test's own."""
    with ExitStack() as stack:

        def start(*options: str, name: str | None = None, **more: object) -> Site:
            made = Site(tmp_path / "site", database, name or new_name(), *options, **more)
            stack.callback(lambda: print(made.log))
            return stack.enter_context(made)

        yield start


# 1. One worker writes, all see it


@pytest.mark.parametrize("how", READERS)
def test_a_write_in_one_worker_is_seen_by_all_at_their_next_read(site, how):
    for write in WRITERS:
        check_write_is_seen(site, how, write, pk=1)


def test_other_things_stay_cached(site):
    """So that a cache which forgets everything at each write does not pass."""
    value = change(site, 3)
    site.read("row", 3)
    change(site, 4)
    others = site.read_everywhere("row", 3)
    assert_all_show(value, others)
    assert_hits(others)


# 2. Fills that a write overtakes


@pytest.mark.parametrize(("how", "point", "read"), FILLS)
def test_a_fill_that_began_before_a_write_is_never_served_after_it(site, how, point, read):
    elsewhere = [check_overtaken_fill(site, how, point, read, pk=2) for _ in range(3)]
    if "gthread" not in site.options:  # a stopped sync worker cannot have been the writer
        assert all(elsewhere)


@pytest.mark.parametrize(("how", "point", "read"), FILLS)
def test_a_fill_that_no_write_overtakes_is_kept(site, how, point, read):
    """The stop itself does not prevent the store: the tests above do judge stored fills."""
    value = change(site, 2)
    with site.stopped(point, "GET", f"/read/{how}/2/") as fill:
        assert_all_show(value, [fill.go_on()])
    answers = site.read_everywhere(how, 2)
    assert_all_show(value, answers)
    assert_hits(answers)


def test_a_site_that_invalidates_nothing_would_be_noticed(start):
    site = start(SITE_MUTATION="deaf")
    for pk, how in enumerate(READERS, 20):
        with pytest.raises(AssertionError, match="show something else"):
            check_write_is_seen(site, how, "save", pk)


def test_a_site_that_stamps_fills_too_late_would_be_noticed(start):
    site = start(SITE_MUTATION="late-stamp")
    check_write_is_seen(site, "row", "save", pk=1)  # one after the other all is well
    for how, point, read in FILLS:
        if read == "after":
            with pytest.raises(AssertionError, match="show something else"):
                check_overtaken_fill(site, how, point, read, pk=2)


# 3. Transactions


@pytest.mark.parametrize("how", READERS)
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_others_keep_the_old_row_until_commit(site, how, end):
    old = change(site, 5)
    site.read(how, 5)
    path = f"/transaction/{end}/5/{old + 1}/"
    with site.stopped("transaction:written", "POST", path) as writer:
        others = site.pids() - {writer.worker} if "gthread" not in site.options else site.pids()
        during = site.read_everywhere(how, 5, among=others)
        assert_all_show(old, during)
        assert_hits(during)
        assert writer.go_on().value == old + 1  # it read its own write
    after = site.read_everywhere(how, 5)
    assert_all_show(old + 1 if end == "commit" else old, after)
    if end == "rollback":
        assert_hits(after)


@pytest.mark.parametrize("how", READERS)
def test_what_others_cache_during_a_transaction_ends_with_it(site, how):
    """Not even a fill that begins and ends while the write waits for its COMMIT outlives that."""
    old = change(site, 6)
    path = f"/transaction/commit/6/{old + 1}/"
    with site.stopped("transaction:written", "POST", path) as writer:
        assert_all_show(old, [site.read(how, 6), filled := site.read(how, 6)])
        assert_hits([filled])
        writer.go_on()
    assert_all_show(old + 1, site.read_everywhere(how, 6))


# 4. Workers that die, retire and are replaced


def test_kill_9_of_workers_under_load(start, evidence):
    site, ledger, chance = start(), Ledger(), random.Random(9)
    killed = set()
    with load(site, ledger):
        for _ in range(8):
            wait_for(lambda: len(site.pids()) == 4, "four workers")
            victim = chance.choice(sorted(site.pids()))
            seen = ledger.done["read"]
            wait_for(lambda at=seen + 40: ledger.done["read"] > at, "requests being served")
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
            killed.add(victim)
            wait_for(lambda pid=victim: pid not in site.pids(), "the end of a killed worker")
    wait_for(lambda: len(site.pids()) == 4, "four workers")
    assert not killed & site.pids()
    assert_goes_on(site, ledger)
    assert Segment(site.name).check().sound
    evidence("gunicorn, kill -9 under load", kills=len(killed), **ledger.done)


def test_workers_that_retire_after_max_requests(start, evidence):
    site, ledger = start("--max-requests", "40", "--max-requests-jitter", "20"), Ledger()
    with load(site, ledger):
        wait_for(lambda: len(ledger.workers) >= 12, "twelve workers one after the other")
    for pk in range(10, 15):
        ledger.read(site, "row", pk)
    assert not ledger.stale, ledger.stale
    assert ledger.done["hits"] > 0
    evidence("gunicorn, max_requests", workers=len(ledger.workers), **ledger.done)


def test_a_reload_begins_warm(start):
    site = start()
    values = {how: change(site, pk) for pk, how in enumerate(READERS, 20)}
    for pk, how in enumerate(READERS, 20):
        site.read(how, pk)
    old = site.pids()
    site.process.send_signal(signal.SIGHUP)
    wait_for(lambda: len(site.pids()) == 4 and not site.pids() & old, "four new workers")
    for pk, how in enumerate(READERS, 20):
        answers = site.read_everywhere(how, pk)
        assert not old & {answer.worker for answer in answers}
        assert_all_show(values[how], answers)
        assert_hits(answers)
    check_write_is_seen(site, "row", "save", pk=1)


def test_a_writer_killed_between_commit_and_invalidation(start):
    site = start(SITE_MUTATION="dies-before-invalidating")
    assert_all_show(0, [site.read("row", 1), *site.read_everywhere("row", 1)])
    with pytest.raises((ConnectionError, HTTPException)):
        site.write("update", 1, 666)
    assert_all_show(666, [site.read("database", 1)])
    assert_all_show(666, site.read_everywhere("row", 1))


# 5. Where there is no segment to use


def garble(path: Path) -> None:
    _overwrite(path, 24, b"\xa5" * 64)


def make_foreign(path: Path) -> None:
    _overwrite(path, 0, b"something else entirely")


def make_newer(path: Path) -> None:
    _overwrite(path, 8, (999).to_bytes(4, "little"))


def truncate(path: Path) -> None:
    os.truncate(path, 1 << 20)


def open_to_others(path: Path) -> None:
    path.chmod(0o666)


def _overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def bytes_of_shared_memory() -> int:
    found = os.statvfs("/dev/shm")
    return found.f_blocks * found.f_frsize


def read_without_cache(site: Site, pk: int, value: int) -> None:
    for how in READERS:
        answers = site.read_everywhere(how, pk)
        assert_all_show(value, answers)
        assert not any(answer.from_cache for answer in answers)


def assert_each_worker_said_once(site: Site, *fragments: str) -> None:
    said = site.log_lines("zoocache")
    assert said.keys() == site.pids()
    for lines in said.values():
        assert len(lines) == 1, lines
        for fragment in ("the cache is off", *fragments):
            assert fragment in lines[0]


@pytest.mark.parametrize(
    ("spoil", "why", "what_to_do"),
    [
        (garble, "the header of {path} is garbled", "remove {path}"),
        (make_foreign, "{path} is not a segment of this zoocache version", "remove {path}"),
        (make_newer, "{path} is not a segment of this zoocache version", "remove {path}"),
        (truncate, "{path} is shorter than its header says", "remove {path}"),
        (open_to_others, "{path} is open to other users", "remove {path}"),
    ],
)
def test_a_bad_segment_is_done_without_until_it_is_removed(start, spoil, why, what_to_do):
    name = new_name()
    path = path_of(name)
    Cache(Segment(name, 4 << 20)).set("key", b"value")
    spoil(Path(path))
    site = start(workers=2, name=name, SITE_RETRY_SECONDS="0.3")
    read_without_cache(site, 1, 0)
    site.write("save", 1, 1)
    time.sleep(0.4)  # past the next try
    read_without_cache(site, 1, 1)
    assert_each_worker_said_once(site, why.format(path=path), what_to_do.format(path=path))
    Path(path).unlink()
    wait_for(lambda: site.read("row", 1).from_cache, "hits again")
    time.sleep(0.4)  # every worker has tried again when this is over
    site.read("row", 1)
    site.read_everywhere("row", 1)
    assert_hits(site.read_everywhere("row", 1))
    check_write_is_seen(site, "all", "save", pk=1)
    assert_each_worker_said_once(site)


def test_a_segment_larger_than_dev_shm_is_done_without(start):
    size = bytes_of_shared_memory() + (1 << 30)
    site = start(workers=2, zoocache={"SIZE": size}, SITE_RETRY_SECONDS="0.2")
    for value in range(3):
        read_without_cache(site, 1, value)
        # The free space, which the message shows, is another at each try.
        with closing_segment(f"{site.name}-{value}"):
            time.sleep(0.3)
            site.write("save", 1, value + 1)
            read_without_cache(site, 1, value + 1)
    assert_each_worker_said_once(site, f"no room for {size} bytes", "Choose a smaller size")
    assert site.segment.stat().st_blocks == 0, "what failed takes room"


@contextmanager
def closing_segment(name: str) -> Iterator[None]:
    Segment(name, 1 << 20)
    try:
        yield
    finally:
        unlink(name)


def test_a_size_that_is_no_size_is_done_without(start):
    site = start(workers=2, zoocache={"SIZE": "lots"}, SITE_RETRY_SECONDS="0.2")
    read_without_cache(site, 1, 0)
    site.write("save", 1, 1)
    time.sleep(0.3)
    read_without_cache(site, 1, 1)
    assert_each_worker_said_once(site, "ZOOCACHE['SIZE']", "size must be like 64MiB", "'lots'")


def test_each_write_that_cannot_be_told_is_logged(start):
    """Not once: each may leave a stale row in processes that attached before."""
    name = new_name()
    Segment(name, 4 << 20)
    garble(Path(path_of(name)))
    site = start(workers=2, name=name)
    site.read_everywhere("row", 1)
    for value in range(1, 5):
        site.write("update", 1, value)
    lines = [line for lines in site.log_lines("zoocache.commits").values() for line in lines]
    assert len(lines) == 4, lines


def test_disabled_serves_from_the_database_and_makes_no_segment(start):
    site = start(workers=2, ZOOCACHE_ENABLED="0")
    for value in (1, 2):
        site.write("save", 1, value)
        read_without_cache(site, 1, value)
    assert not site.segment.exists()
    assert "zoocache" not in site.log


# 6. Processes that serve no requests


def cached_everywhere(site: Site, pk: int, how: str = "row") -> int:
    value = change(site, pk)
    site.read(how, pk)
    answers = site.read_everywhere(how, pk)
    assert_all_show(value, answers)
    assert_hits(answers)
    return value


@pytest.mark.parametrize("enabled", ["1", "0"])
def test_a_management_command_invalidates_for_the_workers(site, enabled):
    old = cached_everywhere(site, 7)
    environment = {**site.environment, "ZOOCACHE_ENABLED": enabled}
    run_python(environment, "-m", "django", "set_value", "7", str(old + 1))
    assert_all_show(old + 1, site.read_everywhere("row", 7))


def test_a_shell_process_invalidates_for_the_workers(site):
    old = cached_everywhere(site, 7, "all")
    script = f"from things.models import *; Thing.objects.filter(pk=7).update(value={old + 1})"
    run_python(site.environment, "-m", "django", "shell", "-c", script)
    assert_all_show(old + 1, site.read_everywhere("all", 7))


def write_unseen(site: Site, pk: int, value: int) -> None:
    """Change the row where zoocache cannot see it."""
    with closing(sqlite3.connect(site.database, timeout=20)) as connection, connection:
        connection.execute("UPDATE things_thing SET value = ? WHERE id = ?", [value, pk])


@pytest.mark.parametrize(
    ("tag", "how"),
    [
        ("Thing:8", "row"),
        ("Thing:8", "all"),
        ("things.Thing:8", "declared"),
        ("thing:8", "outer"),
        ("Thing", "filter"),
        ("Thing", "tracked"),
    ],
)
def test_invalidate_by_name_in_another_process(site, tag, how):
    old, other = cached_everywhere(site, 8, how), cached_everywhere(site, 9)
    site.read(how, 8)
    write_unseen(site, 8, old + 1)
    unaware = site.read_everywhere(how, 8)
    assert_all_show(old, unaware)
    assert_hits(unaware)
    script = f"import django, zoocache; django.setup(); zoocache.invalidate({tag!r})"
    run_python(site.environment, "-c", script)
    assert_all_show(old + 1, site.read_everywhere(how, 8))
    others = site.read_everywhere("row", 9)
    assert_all_show(other, others)
    if tag != "Thing":
        assert_hits(others)


def test_clear_in_a_process_without_django(site):
    old = cached_everywhere(site, 8)
    write_unseen(site, 8, old + 1)
    assert_all_show(old, site.read_everywhere("row", 8))
    environment = {**site.environment, "ZOOCACHE_NAME": site.name}
    run_python(environment, "-c", "import zoocache; zoocache.clear()")
    assert_all_show(old + 1, site.read_everywhere("row", 8))


# 7. Preloading


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_a_segment_that_was_opened_before_the_fork(start, options):
    workers = int(options[1])
    site = start("--preload", *options, workers=workers, SITE_OPEN_BEFORE_FORK="1")
    master = site.process.pid
    assert Cache(Segment(site.name)).get("made-by-the-master") == b"before the fork"
    for how in READERS:
        check_write_is_seen(site, how, "save", pk=1)
    for how, point, read in FILLS:
        check_overtaken_fill(site, how, point, read, pk=2)
    answers: list[Answer] = site.read_everywhere("row", 1)
    assert {answer.opened_by for answer in answers} == {str(master)}
    assert master not in site.pids()
    inode = str(site.segment.stat().st_ino)
    for pid in (master, *site.pids()):
        maps = Path(f"/proc/{pid}/maps").read_text()
        mapped = {line.split()[4] for line in maps.splitlines() if site.segment.name in line}
        assert mapped == {inode}
