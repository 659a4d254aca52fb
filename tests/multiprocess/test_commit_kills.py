"""Workers killed in the middle of a commit: whoever sees the new row is never served the old one.

The server goes on working for a dead client. So what it announced stays so until
its session is gone.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
PATIENCE = 20
QUARANTINE = 60


class Peer:
    """See thing_peer.py."""

    def __init__(self, stack: ExitStack, **given: Any) -> None:
        self._process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, str(HERE / "thing_peer.py"), json.dumps(given)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
        stack.callback(self._process.kill)

    def send(self, *command: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def answer(self, patience: float = PATIENCE) -> Any:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], patience)
        assert ready, "no answer"
        line = self._process.stdout.readline()
        assert line, "the peer has died"
        return json.loads(line)

    def ask(self, *command: Any) -> Any:
        self.send(*command)
        return self.answer()


class Host:
    """A reader, a nursery of writers, and a connection of nobody's to their database."""

    def __init__(self, stack: ExitStack, kind: str, folder: Path, segment: str) -> None:
        self.kind = kind
        self._stack = stack
        self._database, self.admin = DATABASES[kind](stack, folder)
        self._zoocache = {"NAME": segment, "SIZE": "4MiB", "QUARANTINE": QUARANTINE}

    def start(self, **sessions: float) -> None:
        given = {"database": self._database, "zoocache": self._zoocache, "sessions": sessions}
        self._reader, self._nursery = Peer(self._stack, **given), Peer(self._stack, **given)
        self.read_on("make_rows")

    def read_on(self, *command: Any) -> Any:
        return self._reader.ask("reader", *command)

    def watch(self, seconds: float) -> Callable[[], Any]:
        self._reader.send("reader", "watch", seconds)
        return self._reader.answer

    def fork(self, *command: Any) -> int:
        return int(self._nursery.ask("nursery", "fork", *command))

    def wait(self, pid: int) -> int:
        return int(self._nursery.ask("nursery", "wait", pid))

    def kill(self, pid: int, number: int = signal.SIGKILL) -> int:
        os.kill(pid, number)
        return self.wait(pid)

    def warm_up(self) -> None:
        self.read_on("read")
        assert self.read_on("read") == [0, 0, True]

    def reads(self, pk: int = 1) -> tuple[int, int, bool]:
        """Reads once, and fails if what is cached is older than the database."""
        uncached, cached, hit = self.read_on("read", pk)
        assert cached >= uncached, "stale"
        return uncached, cached, hit

    def reads_until(self, condition: Callable[[], bool], pk: int = 1) -> float:
        """Reads all the time; how long it took."""
        start = time.monotonic()
        while not condition():
            self.reads(pk)
            assert time.monotonic() - start < PATIENCE
        return time.monotonic() - start

    def query(self, sql: str) -> Any:
        with closing(self.admin.cursor()) as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else None

    def wait_for_query(self, sql: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self.query(sql):
            assert time.monotonic() < deadline, sql
            time.sleep(0.01)


def _sqlite(stack: ExitStack, folder: Path) -> Any:
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "things.sqlite3")}, None


def _servers() -> Any:
    folder = str(HERE.parent / "django")
    if folder not in sys.path:
        sys.path.append(folder)
    from shop import servers

    return servers


def _postgres(stack: ExitStack, folder: Path) -> Any:
    import psycopg

    servers = _servers()
    server = servers.find_postgres()
    if server is None:
        pytest.skip(servers.HOW_TO)
    name = f"zoocache_kills_{os.getpid()}"
    maintenance = stack.enter_context(servers.connect_postgres(server))
    maintenance.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    stack.callback(maintenance.execute, f"DROP DATABASE {name} WITH (FORCE)")
    admin = psycopg.connect(
        host=server["HOST"], port=server["PORT"], user=server["USER"],
        password=server["PASSWORD"] or None, dbname=name, autocommit=True,
    )  # fmt: skip
    stack.callback(admin.close)
    return {"ENGINE": "django.db.backends.postgresql", "NAME": name, **server}, admin


def _mariadb(stack: ExitStack, folder: Path) -> Any:
    servers = _servers()
    database = stack.enter_context(servers.new_mariadb())
    admin = servers.mariadb_driver().connect(
        host=database["HOST"], user=database["USER"], password=database["PASSWORD"],
        database=database["NAME"], autocommit=True,
    )  # fmt: skip
    stack.callback(admin.close)
    return database, admin


DATABASES: dict[str, Callable[[ExitStack, Path], Any]] = {
    "sqlite": _sqlite,
    "postgres": _postgres,
    "mariadb": _mariadb,
}
on = pytest.mark.parametrize("host", ["sqlite", "postgres", "mariadb"], indirect=True)
on_servers = pytest.mark.parametrize("host", ["postgres", "mariadb"], indirect=True)
on_postgres = pytest.mark.parametrize("host", ["postgres"], indirect=True)


@pytest.fixture
def host(request: pytest.FixtureRequest, tmp_path: Path, short_name: str) -> Iterator[Host]:
    with ExitStack() as stack:
        yield Host(stack, request.param, tmp_path, short_name)


def assert_over(host: Host, pk: int = 1) -> None:
    """Nothing is announced any more and hits are hits, long before the quarantine ends.

    Who reads the row finds it out; who reads others has no need to.
    """
    took = host.reads_until(lambda: host.read_on("state")["lanes"] == 0, pk)
    assert took < QUARANTINE / 4
    host.reads(pk)
    uncached, cached, hit = host.reads(pk)
    assert uncached == cached
    assert hit
    assert host.read_on("state")["sound"]


TRANSACTIONS = ["atomic", "nested", "many", "raw transaction", "no autocommit"]
STATEMENTS = ["autocommit", "raw", "many values", "create", "delete"]
BEFORE = ["written", "commit:announced"]
"""Points before the COMMIT."""
POINTS = [
    (how, point)
    for how in TRANSACTIONS + STATEMENTS
    for point in (*BEFORE, "commit:done", "bumped", "settled")
    if point != "written" or how in TRANSACTIONS
    if point != "bumped" or how == "many"  # in the middle: raised, and announced still
]
CREATED = 600
"""What "create" adds to the key that it is told."""


@on
def test_killed_in_each_step(host: Host, evidence: Callable[..., None]) -> None:
    """Each writer has a row of its own; some have none before, or none after it."""
    host.start(_SECONDS_BETWEEN_LOOKS=0.05)
    for number, (how, point) in enumerate(POINTS, 3):
        told = f"{how}, killed at {point}"
        pk = number + (CREATED if how == "create" else 0)
        host.read_on("read", pk)
        before, cached, hit = host.read_on("read", pk)
        assert (cached, hit) == (before, True), told
        assert host.wait(host.fork("write", how, number, point, number)) == -signal.SIGKILL, told
        # A driver that does not tell whether a raw BEGIN is over has its statements announced, too.
        is_first = how == "raw transaction" and host.kind == "mariadb"
        after = -1 if how == "delete" else number
        after = before if point in BEFORE or is_first else after
        uncached, cached, hit = host.read_on("read", pk)
        assert (uncached, cached) == (after, after), told
        assert not hit or point == "written" or is_first, told
        assert host.read_on("read", pk)[:2] == [after, after], told
        assert_over(host, pk)
    evidence(f"killed in each step of a commit on {host.kind}", kills=len(POINTS))


@on
def test_readers_that_are_killed(host: Host) -> None:
    """They leave no turn that others wait for, and nothing of what they have read."""
    host.start()
    for pk, point in enumerate(("fill:stamped", "fill:read"), 3):
        assert host.wait(host.fork("read", pk, point)) == -signal.SIGKILL, point
        assert host.wait(host.fork("write", "autocommit", pk, None, pk)) == 0
        start = time.monotonic()
        assert host.read_on("read", pk) == [pk, pk, False], point
        assert host.read_on("read", pk) == [pk, pk, True], point
        assert time.monotonic() - start < 5, point  # a read waits for 10 seconds at most
    assert_over(host)


@on
def test_who_is_not_killed_leaves_nothing(host: Host) -> None:
    host.start()
    host.warm_up()
    for value, how in enumerate(("autocommit", "atomic", "many", "raw"), 1):
        assert host.wait(host.fork("write", how, value, None)) == 0
        assert host.read_on("state") == {"lanes": 0, "quarantined": 0, "sound": True}
        assert host.reads() == (value, value, False)
        assert host.reads() == (value, value, True)


SLEEP_AT_COMMIT = """
    CREATE FUNCTION take_long() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep(1.5); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON things_thing DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.id = 1) EXECUTE FUNCTION take_long();
"""
ASLEEP = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"


@on_postgres
@pytest.mark.parametrize("how", ["atomic", "autocommit"])
def test_killed_while_the_server_is_at_the_commit(how: str, host: Host) -> None:
    """The new row appears more than a second after its writer's death."""
    host.start()
    host.query(SLEEP_AT_COMMIT)
    host.warm_up()
    writer = host.fork("write", how, 1, None)
    host.wait_for_query(ASLEEP)
    assert host.kill(writer) == -signal.SIGKILL
    assert host.reads() == (0, 0, False)
    assert host.reads_until(lambda: host.reads()[0] == 1) > 0.5
    assert_over(host)


WAITING = {
    "postgres": "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
    "AND datname = current_database()",
    "mariadb": "SELECT 1 FROM information_schema.processlist "
    "WHERE db = DATABASE() AND info LIKE 'UPDATE%%' AND time_ms > 20",
}


@pytest.fixture
def waiting(host: Host) -> Callable[..., int]:
    """A writer that waits for a row's lock, which the test's own connection has."""

    def fork(*command: Any) -> int:
        host.start()
        host.warm_up()
        host.query("BEGIN")
        host.query("SELECT value FROM things_thing WHERE id = 1 FOR UPDATE")
        writer = host.fork(*command)
        deadline = time.monotonic() + PATIENCE
        while not host.query(WAITING[host.kind]):
            # pg_stat_activity is fixed at its first use in a transaction.
            if host.kind == "postgres":
                host.query("SELECT pg_stat_clear_snapshot()")
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return writer

    return fork


@on_servers
def test_killed_while_it_waits_for_a_lock(host: Host, waiting: Callable[..., int]) -> None:
    """The server does not notice, and commits once the lock is free."""
    writer = waiting("write", "autocommit", 1, None)
    assert host.kill(writer) == -signal.SIGKILL
    start = time.monotonic()
    host.reads_until(lambda: time.monotonic() - start > 2.5)  # looks more than once
    assert host.reads() == (0, 0, False)
    assert host.read_on("state")["quarantined"] == 1
    host.query("COMMIT")
    host.reads_until(lambda: host.reads()[0] == 1)
    assert_over(host)


@on_servers
@pytest.mark.parametrize("how", ["autocommit", "atomic"])
def test_aborted_while_it_waits_for_a_lock(
    how: str, host: Host, waiting: Callable[..., int]
) -> None:
    """gunicorn's timeout. The driver may cancel the statement, or leave the server to it."""
    writer = waiting("write_until_aborted", how, 1)
    assert host.kill(writer, signal.SIGABRT) == 3
    start = time.monotonic()
    host.reads_until(lambda: time.monotonic() - start > 1.2)
    host.query("COMMIT")
    start = time.monotonic()
    host.reads_until(lambda: time.monotonic() - start > 0.5)
    assert_over(host)


@on
def test_killed_anywhere(host: Host, evidence: Callable[..., None]) -> None:
    """Writers one after the other, each killed after some milliseconds."""
    # Not the seconds of the defaults, or there would hardly be a hit.
    host.start(_SECONDS_BETWEEN_LOOKS=0.02)
    host.warm_up()
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    seen = host.watch(8)
    end, kills = time.monotonic() + 7.5, 0
    while time.monotonic() < end:
        writer = host.fork("write_on_and_on", rng.randrange(2**32))
        time.sleep(0.02 + rng.random() * 0.05)
        assert host.kill(writer) == -signal.SIGKILL
        kills += 1
        time.sleep(rng.choice([0, 0.05, 0.15]))  # sometimes nothing repairs what it left
    found = seen()
    assert found["stale"] == []
    assert found["hits"] > 20
    assert found["values"] > kills / 2
    assert_over(host)
    evidence(f"killed in commits on {host.kind}", kills=kills, **{
        name: found[name] for name in ("reads", "hits", "values")
    })  # fmt: skip
