"""The site as a process: its data, and gunicorn in front of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil

SITE = Path(__file__).resolve().parent
START_TIMEOUT = 30
STOP_TIMEOUT = 10


class ServerError(Exception):
    """The site could not be prepared, or does not answer. The message says what to look at."""


def environment(data: Path, cache: str) -> dict[str, str]:
    """Return the environment in which the site uses this folder and this shared cache."""
    settings = {"DJANGO_SETTINGS_MODULE": "atlas.settings", "PYTHONUNBUFFERED": "1"}
    return {**os.environ, **settings, "ATLAS_DATA": str(data), "ATLAS_CACHE": cache}


def manage(env: dict[str, str], *arguments: str) -> None:
    """Run manage.py; what it prints goes to the terminal."""
    command = [sys.executable, "manage.py", *arguments]
    # A session of its own: Ctrl-C reaches only this process, which then ends the command quietly.
    if subprocess.run(command, cwd=SITE, env=env, start_new_session=True).returncode:
        raise ServerError(f"manage.py {arguments[0]} failed; its message is above.")


def remove_cache(name: str) -> None:
    """Remove the segments of shared memory that carry this name, which nobody uses any more."""
    for path in Path("/dev/shm").glob(f"*{name}*"):
        path.unlink(missing_ok=True)


class Server:
    """gunicorn with the atlas site, on a free port of 127.0.0.1; use it in a with statement."""

    def __init__(self, env: dict[str, str], workers: int, log: Path) -> None:
        self.env, self.worker_count, self.log = env, workers, log
        self.port = 0

    def __enter__(self) -> Server:
        # The socket is bound here and inherited, so the port is known and nobody can take it.
        with socket.socket() as listener, self.log.open("wb") as log:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
            number = listener.fileno()
            command = [sys.executable, "-m", "gunicorn", "atlas.wsgi", "--bind", f"fd://{number}"]
            self.process = subprocess.Popen(
                [*command, "--workers", str(self.worker_count)],
                cwd=SITE,
                env=self.env,
                pass_fds=[number],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # as above
            )
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End gunicorn: politely first, then with its workers."""
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def workers(self) -> list[int]:
        """Return the process ids of the workers that are there now."""
        return sorted(child.pid for child in psutil.Process(self.process.pid).children())

    def get(self, path: str) -> tuple[int, bytes]:
        """Fetch a page over a connection of its own; return (pid of the worker, body)."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=START_TIMEOUT)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
        except (OSError, HTTPException) as error:
            raise ServerError(f"GET {path} failed: {error!r}") from error
        finally:
            connection.close()
        if response.status != 200:
            raise ServerError(f"GET {path} answered with status {response.status}.")
        return int(response.headers["X-Worker"]), body

    def counters(self) -> dict[str, int]:
        """Return what the cache has counted so far, on the whole host."""
        _, body = self.get("/api/stats/")
        return json.loads(body)["cache"]

    def warm_up(self, paths: list[str]) -> None:
        """Fetch the paths from every worker, so that none has to import or compile later."""
        waiting = {worker: set(paths) for worker in self.workers()}
        deadline = time.monotonic() + START_TIMEOUT
        while any(waiting.values()):
            if time.monotonic() > deadline:
                silent = [worker for worker, left in waiting.items() if left]
                raise ServerError(f"Within {START_TIMEOUT} s these workers got no turn: {silent}")
            for path in set().union(*waiting.values()):
                worker, _ = self.get(path)
                waiting.get(worker, set()).discard(path)

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            if self.process.poll() is not None:
                raise ServerError("gunicorn ended right after its start.")
            try:
                self.get("/api/stats/")
                trouble = f"of {self.worker_count} workers, {len(self.workers())} are there"
                if len(self.workers()) == self.worker_count:
                    return
            except ServerError as error:
                trouble = str(error)
            if time.monotonic() > deadline:
                raise ServerError(f"Not ready within {START_TIMEOUT} s: {trouble}")
            time.sleep(0.1)
