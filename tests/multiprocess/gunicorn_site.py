"""The site in `site/` behind a real gunicorn, and how the tests talk to its workers."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import psutil

from zoocache.shm import path_of, unlink

FOLDER = Path(__file__).resolve().parent / "site"
THINGS = range(1, 61)
PATIENCE = 20  # seconds for whatever should be a matter of milliseconds
LINE = re.compile(r"^\[(\d+)\] (zoocache[\w.]*) ([A-Z]+): (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Answer:
    """A response: the value it shows, which worker gave it, and with how many SQL queries."""

    value: int | None
    worker: int
    queries: int
    opened_by: str

    @property
    def from_cache(self) -> bool:
        return self.queries == 0


def make_database(path: Path, **environment: str) -> None:
    """Make the site's database, with each thing's value 0; in a file, if it is SQLite's."""
    script = (
        "from django.core.management import call_command as c; c('migrate', run_syncdb=True, "
        "verbosity=0); from things.models import Thing; "
        f"Thing.objects.bulk_create(Thing(pk=pk, value=0) for pk in {list(THINGS)})"
    )
    zoocache = {"ENABLED": False, "NAME": "test-nobody"}
    environment = site_environment(path, zoocache, **environment)
    run_python(environment, "-c", f"import django; django.setup(); {script}")


def site_environment(database: Path, zoocache: dict, **more: str) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("ZOOCACHE_", "SITE_"))}
    return {
        **inherited,
        "DJANGO_SETTINGS_MODULE": "settings",
        "PYTHONPATH": os.pathsep.join([str(FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYTHONUNBUFFERED": "1",
        "SITE_DATABASE": str(database),
        "SITE_ZOOCACHE": json.dumps(zoocache),
        **more,
    }


def run_python(environment: dict[str, str], *arguments: str) -> str:
    """Run Python in a process of its own; what it logged and printed is the result."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=FOLDER, env=environment, timeout=PATIENCE,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def wait_for(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"not within {patience} s: {what}"
        time.sleep(0.02)


class Stopped:
    """A request that stands at a named point of its worker."""

    def __init__(self, worker: int, answer: Future[Answer], release: Callable[[], None]) -> None:
        self.worker = worker
        self._answer = answer
        self._release = release

    def go_on(self) -> Answer:
        """Let it go on, and return its answer."""
        assert not self._answer.done(), "the request did not wait"
        self._release()
        return self._answer.result(PATIENCE)


class Site:
    """gunicorn on a free port; use it in a with statement. The segment goes with it."""

    application = "wsgi"

    def __init__(
        self,
        folder: Path,
        database: Path,
        name: str,
        *options: str,
        workers: int = 4,
        zoocache: dict | None = None,
        **environment: str,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.name, self.workers = folder, name, workers
        self.database = folder / "site.sqlite3"
        if database.exists():
            shutil.copy(database, self.database)
        self.zoocache = {"NAME": name, "SIZE": "4MiB", **(zoocache or {})}
        self.environment = site_environment(self.database, self.zoocache, **environment)
        self.options = options
        self.segment = Path(path_of(name))
        self._log = folder / "gunicorn.log"
        self._barriers = 0
        self._clients = ThreadPoolExecutor(16)

    def __enter__(self) -> Site:
        # Bound here and inherited, so that the port is known and nobody can take it.
        with socket.socket() as listener, self._log.open("wb") as log:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # uWSGI binds it anew
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
            number = listener.fileno()
            self.process = subprocess.Popen(
                self.command(number), cwd=FOLDER, env=self.environment, pass_fds=[number],
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        try:
            wait_for(self._is_up, "all workers of gunicorn")
        except BaseException:
            self.__exit__()
            print(self.log)
            raise
        return self

    def command(self, listener: int) -> list[str]:
        """Starts the server on a socket that it inherits."""
        bind = ["--bind", f"fd://{listener}", "--workers", str(self.workers)]
        return [sys.executable, "-m", "gunicorn", self.application, *bind, *self.options]

    def _is_up(self) -> bool:
        assert self.process.poll() is None, "gunicorn ended right after its start"
        if len(self.pids()) < self.workers:
            return False
        self.get("/health/")
        return True

    def __exit__(self, *exception: object) -> None:
        self._clients.shutdown(cancel_futures=True)
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        unlink(self.name)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def log_lines(self, logger: str) -> dict[int, list[str]]:
        """What a logger said so far, by process."""
        lines = defaultdict(list)
        for pid, name, _, message in LINE.findall(self.log):
            if name == logger:
                lines[int(pid)].append(message)
        return dict(lines)

    def pids(self) -> set[int]:
        """The workers that are there now."""
        return self.pids_of(self.process.pid)

    @staticmethod
    def pids_of(master: int) -> set[int]:
        """The children of a process."""
        found = set()
        for child in psutil.Process(master).children():
            with suppress(psutil.NoSuchProcess):
                if child.status() != psutil.STATUS_ZOMBIE:
                    found.add(child.pid)
        return found

    # Requests

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None) -> Answer:
        """One request over a connection of its own. Any status but 200 fails the test."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as connection:
            connection.request(method, path, headers={"Connection": "close", **(headers or {})})
            return self._answer(connection, method, path)

    @contextmanager
    def asked(self, path: str) -> Iterator[Callable[[], Answer]]:
        """A GET that is sent and not waited for; gives what waits for its answer."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as connection:
            connection.request("GET", path, headers={"Connection": "close"})
            yield lambda: self._answer(connection, "GET", path)

    @staticmethod
    def _answer(connection: HTTPConnection, method: str, path: str) -> Answer:
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, f"{method} {path}: {response.status}\n{body[:2000]!r}"
        return Answer(
            json.loads(body)["value"],
            int(response.headers["X-Worker"]),
            int(response.headers["X-Queries"]),
            response.headers["X-Opened-By"],
        )

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def read(self, how: str, pk: int) -> Answer:
        return self.get(f"/read/{how}/{pk}/")

    def write(self, how: str, pk: int, value: int) -> Answer:
        return self.ask("POST", f"/write/{how}/{pk}/{value}/")

    def read_everywhere(self, how: str, pk: int, among: set[int] | None = None) -> list[Answer]:
        """Read until each worker has answered at least once. Returns all answers.

        Without `among`, one that dies meanwhile is not waited for.
        """
        missing = set(self.pids() if among is None else among)
        answers: list[Answer] = []
        deadline = time.monotonic() + PATIENCE
        while missing:
            assert time.monotonic() < deadline, f"these workers got no turn: {missing}"
            # Many at once: a lone request always finds the same worker awake.
            reads = [self._clients.submit(self.read, how, pk) for _ in range(2 * self.workers)]
            answers += [read.result(PATIENCE) for read in reads]
            missing -= {answer.worker for answer in answers}
            if among is None:
                missing &= self.pids()
        return answers

    @contextmanager
    def stopped(self, point: str, method: str, path: str) -> Iterator[Stopped]:
        """Send a request that stops at a named point; enter the block once it stands there."""
        self._barriers += 1
        barrier = self.folder / f"barrier-{self._barriers}"
        reached, released = f"{barrier}.reached", f"{barrier}.released"
        ends = []
        try:
            for fifo in (reached, released):
                os.mkfifo(fifo)
                ends.append(os.open(fifo, os.O_RDWR))
            headers = {"X-Stop-At": point, "X-Barrier": str(barrier)}
            answer = self._clients.submit(self.ask, method, path, headers)
            while not select.select([ends[0]], [], [], 0.1)[0]:
                assert not answer.done(), f"never came to {point}: {answer.result()}"
            worker = int(os.read(ends[0], 20))
            yield Stopped(worker, answer, lambda: os.write(ends[1], b"."))
        finally:
            for end in ends:
                os.close(end)


# What the tests judge


def assert_all_show(value: int, answers: list[Answer]) -> None:
    """Every one of them, and so the first that each worker gave."""
    stale = [answer for answer in answers if answer.value != value]
    assert not stale, f"{value} was expected, but these show something else: {stale}"


def assert_hits(answers: list[Answer]) -> None:
    missed = [answer for answer in answers if not answer.from_cache]
    assert not missed, f"not served from the cache: {missed}"
