"""Other real servers than gunicorn's own workers, asked the same: no stale answer, and hits.

Also what is particular to one of them: gunicorn's hook, greenlets that wait, uWSGI's fork, which
Python does not hear of, and Celery's pool.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPException
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gunicorn_site
import pytest
from gunicorn_site import Site, assert_all_show, assert_hits, wait_for
from other_servers import Gevent, Uvicorn, Uwsgi, celery_worker
from site_checks import (
    Ledger,
    assert_goes_on,
    change,
    check_overtaken_fill,
    check_write_is_seen,
    load,
    new_name,
)

from zoocache.contrib import gunicorn
from zoocache.shm import Cache, Segment
from zoocache.shm.events import Cause, events

SERVERS: dict[str, tuple[type[Site], list[str]]] = {
    "gevent": (Gevent, []),
    "uvicorn": (Uvicorn, []),
    "uwsgi": (Uwsgi, []),
    "uwsgi-lazy-apps": (Uwsgi, ["--lazy-apps"]),
}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("database") / "site.sqlite3"
    gunicorn_site.make_database(path)
    return path


@pytest.fixture
def start(tmp_path: Path, database: Path) -> Iterator[Callable[..., Any]]:
    with ExitStack() as stack:

        def start(kind: type[Site], *options: str, workers: int = 2, **more: Any) -> Site:
            made = kind(tmp_path / "site", database, new_name(), *options, workers=workers, **more)
            stack.callback(lambda: print(made.log) if made.folder.exists() else None)
            return stack.enter_context(made)

        yield start


def assert_at_rest(site: Site) -> None:
    report = Segment(site.name).check()
    assert report.sound, report
    assert report.lanes_taken == 0, report


@pytest.mark.parametrize("server", SERVERS)
def test_a_server(start: Callable[..., Site], server: str, evidence: Callable[..., None]) -> None:
    kind, options = SERVERS[server]
    site, ledger = start(kind, *options), Ledger()
    # One worker writes, and all see it.
    for how, write in (("row", "save"), ("outer", "raw"), ("all", "replace")):
        check_write_is_seen(site, how, write, pk=1)
    value, _ = change(site, 3), change(site, 4)
    site.read("row", 3)
    assert_hits(site.read_everywhere("row", 3))  # another thing stays cached
    # Fills that a write overtakes.
    for how, point in (("row", "fill:read"), ("declared", "function:read")):
        check_overtaken_fill(site, how, point, "after", pk=2)
    # A worker is killed under load.
    with load(site, ledger, clients=4):
        victim = min(site.pids())
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: len(site.pids() - {victim}) == 2, "another worker")
        done = ledger.done["read"]
        wait_for(lambda: ledger.done["read"] > done + 40, "requests being served")
    assert_goes_on(site, ledger)
    # A graceful reload: the new workers begin warm.
    assert_all_show(value, [site.read("row", 3)])
    old = site.pids()
    site.process.send_signal(signal.SIGHUP)
    wait_for(lambda: len(site.pids()) == 2 and not site.pids() & old, "two new workers")
    answers = site.read_everywhere("row", 3)
    assert not old & {answer.worker for answer in answers}
    assert_all_show(value, answers)
    assert_hits(answers)
    assert_at_rest(site)
    evidence(server, **ledger.done)


def test_uwsgi_that_opened_the_segment_before_it_forked(start: Callable[..., Site]) -> None:
    """Python's after-fork hooks do not run there, unless it is told to run them."""
    site = start(Uwsgi, SITE_OPEN_BEFORE_FORK="1")
    for how in ("row", "outer"):
        check_write_is_seen(site, how, "save", pk=1)
    check_overtaken_fill(site, "row", "fill:read", "after", pk=2)
    answers = site.read_everywhere("row", 1)
    assert {answer.opened_by for answer in answers} == {str(site.process.pid)}
    assert site.process.pid not in site.pids()
    victim = min(site.pids())
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(site.pids() - {victim}) == 2, "another worker")
    check_write_is_seen(site, "row", "save", pk=1)
    assert_at_rest(site)


def test_uwsgi_whose_workers_retire(start: Callable[..., Site]) -> None:
    site, ledger = start(Uwsgi, "--max-requests", "20", "--min-worker-lifetime", "1"), Ledger()
    with load(site, ledger, clients=4):
        wait_for(lambda: len(ledger.workers) >= 6, "six workers one after the other")
    assert ledger.done["hits"] > 0
    assert Segment(site.name).check().sound


def test_a_greenlet_that_waits_for_another_lets_the_others_work(start: Callable[..., Site]) -> None:
    """One worker: what it computes stands still, somebody waits for it, and a third is served."""
    site = start(Gevent, workers=1)
    value = change(site, 1)
    path = "/read/declared/1/"  # to compute it costs a query
    with site.stopped("function:read", "GET", path) as leader, site.asked(path) as waiter:
        for _ in range(3):
            site.get("/health/")
        assert_all_show(value, [leader.go_on()])
        answer = waiter()
    assert_all_show(value, [answer])
    assert_hits([answer])
    assert Cache(Segment(site.name)).stats()["waited"] == 1


@pytest.mark.parametrize("preload", [False, True])
def test_gunicorns_hook_ends_what_a_dead_worker_announced(
    start: Callable[..., Site], preload: bool
) -> None:
    """At once, by the master, whether it has the segment open or not: nobody asks for anything."""
    options = ["--config", "reaping.conf.py", *(["--preload"] if preload else [])]
    more = {"SITE_OPEN_BEFORE_FORK": "1"} if preload else {}
    site = start(Site, *options, SITE_MUTATION="dies-before-invalidating", **more)
    check_write_is_seen(site, "row", "save", pk=1)
    with pytest.raises((ConnectionError, HTTPException)):
        site.write("update", 1, 666)
    cache = Cache(Segment(site.name))
    wait_for(lambda: cache.stats()["reaped"] == 1, "the end of a dead worker's announcement")
    by = {event.pid for event in events(cache) if event.cause is Cause.REAPER}
    assert by == {site.process.pid}
    assert_all_show(666, site.read_everywhere("row", 1))
    assert_at_rest(site)
    check_write_is_seen(site, "row", "save", pk=1)


ANNOUNCES_AND_DIES = """
import os, sys
from zoocache.shm import MIN_SIZE, Cache, Segment
os.setuid(int(sys.argv[2]))
intent = Cache(Segment(sys.argv[1], MIN_SIZE)).intent()
intent.announce(["row"], "", 0)
os._exit(9)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_gunicorns_hook_where_workers_are_another_user(segment_name: str) -> None:
    other = 65534
    path = Path(f"/dev/shm/zoocache-{other}-{segment_name}")
    garbled = path.with_name(path.name + "-garbled")
    try:
        subprocess.run([sys.executable, "-c", ANNOUNCES_AND_DIES, segment_name, str(other)])
        garbled.write_bytes(b"nothing of the kind")
        os.chown(garbled, other, other)
        garbled.chmod(0o600)
        gunicorn.child_exit(SimpleNamespace(cfg=SimpleNamespace(uid=other, gid=other)), None)
        assert os.geteuid() == 0
        os.seteuid(other)
        try:
            assert Cache(Segment(segment_name)).stats()["reaped"] == 1
        finally:
            os.seteuid(0)
    finally:
        for file in (path, garbled, path.with_name(path.name + ".lock")):
            file.unlink(missing_ok=True)


def test_a_celery_worker_writes_and_reads(start: Callable[..., Site], tmp_path: Path) -> None:
    site = start(Site)
    queue = tmp_path / "queue"
    queue.mkdir()
    with celery_worker(site, queue) as workers:
        old = change(site, 1)
        site.read("row", 1)
        assert_hits(site.read_everywhere("row", 1))
        # What a web worker has stored, a task is served; what a task writes, all see.
        script = f"""
import json
from things.tasks import read, write
found = [read.delay("row", 1).get(timeout=20, interval=0.02) for _ in range(6)]
wrote = [write.delay(how, 1, {old} + n).get(timeout=20, interval=0.02)
         for n, how in enumerate(("save", "raw", "replace"), 1)]
found += [read.delay("row", 1).get(timeout=20, interval=0.02) for _ in range(6)]
print(json.dumps([found, wrote]))
"""
        environment = {**site.environment, "SITE_QUEUE": str(queue)}
        told = gunicorn_site.run_python(environment, "-c", "import django; django.setup()" + script)
        found, wrote = json.loads(told.splitlines()[-1])
        assert {tuple(one[:2]) for one in found[:6]} == {(old, 0)}
        assert [one[0] for one in found[6:]] == [old + 3] * 6
        assert {one[1] for one in found[7:]} == {0}
        assert {pid for *_, pid in found} | set(wrote) <= workers
        assert_all_show(old + 3, site.read_everywhere("row", 1))
    assert_at_rest(site)
