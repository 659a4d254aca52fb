"""A process with Django and the one model of the site: JSON commands in, JSON answers out.

    python thing_peer.py '{"database": {...}, "zoocache": {...}}'

It reads, cached and not; and it forks writers, which die in the middle of a
write: at a named point, or when the test kills them.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SITE = Path(__file__).resolve().parent / "site"
ROWS = 60


def configure(given: dict[str, Any]) -> None:
    import django
    from django.conf import settings

    sys.path.insert(0, str(SITE))
    if given["database"]["ENGINE"].endswith("mysql"):
        sys.path.append(str(SITE.parents[1] / "django"))
        from shop.servers import mariadb_driver

        mariadb_driver()
    settings.configure(
        DATABASES={"default": given["database"]},
        INSTALLED_APPS=["things"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        ZOOCACHE=given["zoocache"],
    )
    django.setup()
    from zoocache.contrib.django import sessions

    for name, value in given.get("sessions", {}).items():
        setattr(sessions, name, value)


class Reader:
    """Compares what is cached with the database, which it asks first."""

    def make_rows(self) -> None:
        from django.core.management import call_command
        from things.models import Thing

        call_command("migrate", run_syncdb=True, verbosity=0)
        Thing.objects.bulk_create(Thing(pk=pk, value=0) for pk in range(1, ROWS + 1))

    def read(self) -> tuple[int, int, bool]:
        """The value in the database, then the cached one, and whether that was a hit."""
        from django.db import connection
        from django.test.utils import CaptureQueriesContext
        from things.models import Thing

        uncached = Thing.objects.get(pk=1).value
        with CaptureQueriesContext(connection) as captured:
            cached = Thing.cached.get(pk=1).value
        hit = len(captured) == 0
        connection.queries_log.clear()  # it is bounded
        return uncached, cached, hit

    def watch(self, seconds: float) -> dict[str, Any]:
        """Reads all the time; values only rise."""
        end = time.monotonic() + seconds
        stale, reads, hits = [], 0, 0
        while time.monotonic() < end:
            uncached, cached, hit = self.read()
            reads, hits = reads + 1, hits + hit
            if cached < uncached:
                stale.append((uncached, cached))
        return {"reads": reads, "hits": hits, "stale": stale[:5]}

    def state(self) -> dict[str, int]:
        from zoocache import store
        from zoocache.shm.intent import quarantined

        cache = store.cache()
        assert cache is not None
        report = cache.segment.check()
        return {
            "lanes": report.lanes_taken,
            "quarantined": len(quarantined(cache)),
            "sound": report.sound,
        }

    def shift_time(self, seconds: float) -> None:
        from zoocache import store

        cache = store.cache()
        assert cache is not None
        cache.segment.shift_time(seconds)


class Nursery:
    """Forks writers. It never has a connection of its own."""

    def fork(self, how: str, *arguments: Any) -> int:
        from things.models import Thing  # noqa: F401  the writers need not import it

        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                getattr(self, f"_{how}")(*arguments)
                status = 0
            except SystemExit:
                status = 3
            finally:
                if status != 3:
                    os._exit(status)
            from django.db import connections

            connections.close_all()  # as far as gunicorn's worker gets
            os._exit(status)
        return pid

    def wait(self, pid: int) -> int:
        """The exit code of a writer, negative for a signal."""
        for _ in range(1000):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        raise TimeoutError(pid)

    def _write(self, how: str, value: int, die_at: str | None) -> None:
        from django.db import connection

        from zoocache import commits, points

        connection.ensure_connection()
        points.install(lambda name: _die() if name == die_at else None)
        if die_at == "bumped":
            commits.bump = _then_die(commits.bump)
        if die_at == "settled":
            commits.Announcement.settle = _then_die(commits.Announcement.settle)
        WRITES[how](value)

    def _write_until_aborted(self, how: str, value: int) -> None:
        """gunicorn's worker exits in the handler of SIGABRT."""

        def abort(*args: object) -> None:
            sys.exit(1)

        signal.signal(signal.SIGABRT, abort)
        WRITES[how](value)

    def _write_on_and_on(self, seed: int) -> None:
        from things.models import Thing

        rng = random.Random(seed)
        while True:
            value = Thing.objects.get(pk=1).value + 1
            WRITES[rng.choice(sorted(WRITES))](value)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _then_die(call: Callable[..., Any]) -> Callable[..., Any]:
    def calling(*arguments: Any) -> None:
        call(*arguments)
        _die()

    return calling


def _autocommit(value: int) -> None:
    from things.models import Thing

    Thing.objects.filter(pk=1).update(value=value)


def _atomic(value: int) -> None:
    from django.db import transaction
    from things.models import Thing

    with transaction.atomic():
        Thing.objects.filter(pk=2).update(value=value)
        Thing.objects.filter(pk=1).update(value=value)


def _many(value: int) -> None:
    """More tags than an announcement holds."""
    from django.db import transaction
    from things.models import Thing

    with transaction.atomic():
        for pk in range(1, ROWS + 1):
            Thing.objects.filter(pk=pk).update(value=value)


def _raw(value: int) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("UPDATE things_thing SET value = %s WHERE id = 1", [value])


WRITES = {"autocommit": _autocommit, "atomic": _atomic, "many": _many, "raw": _raw}


def main() -> None:
    configure(json.loads(sys.argv[1]))
    served = {"reader": Reader(), "nursery": Nursery()}
    for line in sys.stdin:
        whom, command, *arguments = json.loads(line)
        print(json.dumps(getattr(served[whom], command)(*arguments)), flush=True)


if __name__ == "__main__":
    main()
