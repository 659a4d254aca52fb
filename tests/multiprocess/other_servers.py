"""The same site behind other servers than gunicorn's own workers, and a Celery worker beside it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from gunicorn_site import FOLDER, Site, wait_for


def require(found: object, what: str, how: str) -> None:
    """Skips the test without it; where services are required, that is a failure."""
    if not found:
        missing = f"{what} is missing: {how}"
        if os.environ.get("ZOOCACHE_TEST_SERVICES") == "required":
            pytest.fail(missing)
        pytest.skip(missing)


def require_module(name: str) -> None:
    require(importlib.util.find_spec(name), name, "pip install '.[test]'")


class Gevent(Site):
    """gunicorn's gevent workers: each request is a greenlet."""

    def command(self, listener: int) -> list[str]:
        require_module("gevent")
        return [*super().command(listener), "--worker-class", "gevent"]


class Uvicorn(Site):
    """Django's ASGI application in uvicorn's workers for gunicorn."""

    application = "asgi:application"

    def command(self, listener: int) -> list[str]:
        require_module("uvicorn_worker")
        return [*super().command(listener), "--worker-class", "uvicorn_worker.UvicornWorker"]


class Uwsgi(Site):
    """uWSGI with a master that loads the application and forks."""

    def command(self, listener: int) -> list[str]:
        beside = Path(sys.executable).with_name("uwsgi")
        program = beside if beside.exists() else shutil.which("uwsgi")
        require(program, "uWSGI", "make servers")
        return [
            str(program), "--http-socket", f"127.0.0.1:{self.port}", "--virtualenv", sys.prefix,
            "--module", "wsgi", "--need-app", "--master", "--die-on-term", "--disable-logging",
            "--processes", str(self.workers), "--worker-reload-mercy", "3", *self.options,
        ]  # fmt: skip


@contextmanager
def celery_worker(site: Site, queue: Path) -> Iterator[set[int]]:
    """A Celery worker of two processes; gives their pids."""
    require_module("celery")
    log = queue / "celery.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "celery", "--app", "celery_app", "worker",
                "--pool", "prefork", "--concurrency", "2", "--loglevel", "INFO",
                "--without-gossip", "--without-mingle", "--without-heartbeat",
            ],
            cwd=FOLDER, env={**site.environment, "SITE_QUEUE": str(queue)},
            stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        wait_for(lambda: " ready." in log.read_text(errors="replace"), "Celery's worker")
        yield site.pids_of(process.pid)
    except BaseException:
        print(log.read_text(errors="replace"))
        raise
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
