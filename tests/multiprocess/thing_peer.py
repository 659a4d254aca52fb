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

    def read(self, pk: int = 1) -> tuple[int, int, bool]:
        """The value in the database, then the cached one, and whether that was a hit."""
        from django.db import connection
        from django.test.utils import CaptureQueriesContext
        from things.models import Thing

        uncached = _value(Thing.objects, pk)
        with CaptureQueriesContext(connection) as captured:
            cached = _value(Thing.cached, pk)
        hit = len(captured) == 0
        connection.queries_log.clear()  # it is bounded
        return uncached, cached, hit

    def watch(self, seconds: float) -> dict[str, Any]:
        """Reads all the time; values only rise."""
        end = time.monotonic() + seconds
        stale, reads, hits, values = [], 0, 0, set()
        while time.monotonic() < end:
            uncached, cached, hit = self.read()
            reads, hits = reads + 1, hits + hit
            values.add(uncached)
            if cached < uncached:
                stale.append((uncached, cached))
        return {"reads": reads, "hits": hits, "values": len(values), "stale": stale[:5]}

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


def _value(manager: Any, pk: int) -> int:
    row = manager.filter(pk=pk).first()
    return -1 if row is None else int(row.value)


class Nursery:
    """Forks writers, and readers that die. It never has a connection of its own."""

    def fork(self, how: str, *arguments: Any) -> int:
        from things.models import Thing  # noqa: F401  the writers need not import it

        ready, self._ready = os.pipe()
        pid = os.fork()
        if pid:
            os.close(self._ready)
            if how == "write_on_and_on":  # or it would be killed while it connects
                os.read(ready, 1)
            os.close(ready)
        else:
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

    def _write(self, how: str, value: int, die_at: str | None, pk: int = 1) -> None:
        from django.db import connection

        from zoocache import commits, points

        connection.ensure_connection()
        points.install(lambda name: _die() if name == die_at else None)
        if die_at == "bumped":
            commits.bump = _then_die(commits.bump)
        if die_at == "settled":
            commits.settle = _then_die(commits.settle)
        WRITES[how](value, pk)

    def _read(self, pk: int, die_at: str) -> None:
        from things.models import Thing

        from zoocache import points

        points.install(lambda name: _die() if name == die_at else None)
        _value(Thing.cached, pk)

    def _write_until_aborted(self, how: str, value: int) -> None:
        """gunicorn's worker exits in the handler of SIGABRT."""

        def abort(*args: object) -> None:
            sys.exit(1)

        signal.signal(signal.SIGABRT, abort)
        WRITES[how](value)

    def _write_on_and_on(self, seed: int) -> None:
        from things.models import Thing

        rng = random.Random(seed)
        Thing.objects.get(pk=1)  # connects
        os.write(self._ready, b".")
        while True:
            value = Thing.objects.get(pk=1).value + 1
            WRITES[rng.choice(RISING)](value)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _then_die(call: Callable[..., Any]) -> Callable[..., Any]:
    def calling(*arguments: Any) -> None:
        call(*arguments)
        _die()

    return calling


def _written() -> None:
    """In a transaction, before anybody was told."""
    from zoocache import points

    points.reach("written")


def _sql(*statements: str) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def _update(value: int, pk: int = 1) -> None:
    from things.models import Thing

    Thing.objects.filter(pk=pk).update(value=value)


def _atomic(value: int, pk: int = 1) -> None:
    from django.db import transaction

    with transaction.atomic():
        _update(value, 2)
        _update(value, pk)
        _written()


def _nested(value: int, pk: int = 1) -> None:
    from django.db import transaction

    with transaction.atomic():
        with transaction.atomic():
            _update(value, pk)
        with transaction.atomic():
            _update(value, 2)
            transaction.set_rollback(True)
        _written()


def _many(value: int, pk: int = 1) -> None:
    """More tags than an announcement holds."""
    from django.db import transaction

    with transaction.atomic():
        for one in (pk, *range(1, ROWS + 1)):
            _update(value, one)
        _written()


def _raw(value: int, pk: int = 1) -> None:
    _sql(f"UPDATE things_thing SET value = {value} WHERE id = {pk}")


def _raw_transaction(value: int, pk: int = 1) -> None:
    _sql("BEGIN", f"UPDATE things_thing SET value = {value} WHERE id = {pk}")
    _written()
    _sql("COMMIT")


def _no_autocommit(value: int, pk: int = 1) -> None:
    from django.db import transaction

    transaction.set_autocommit(False)
    _update(value, pk)
    _written()
    transaction.commit()


def _many_values(value: int, pk: int = 1) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.executemany("UPDATE things_thing SET value = %s WHERE id = %s", [(value, pk)])


def _create(value: int, pk: int = 1) -> None:
    from things.models import Thing

    Thing.objects.create(pk=pk + 10 * ROWS, value=value)


def _delete(value: int, pk: int = 1) -> None:
    from things.models import Thing

    Thing.objects.filter(pk=pk).delete()


# Of these the values rise.
WRITES: dict[str, Callable[..., None]] = {
    "autocommit": _update,
    "atomic": _atomic,
    "many": _many,
    "raw": _raw,
}
RISING = sorted(WRITES)
WRITES |= {
    "nested": _nested,
    "raw transaction": _raw_transaction,
    "no autocommit": _no_autocommit,
    "many values": _many_values,
    "create": _create,
    "delete": _delete,
}


def main() -> None:
    configure(json.loads(sys.argv[1]))
    served = {"reader": Reader(), "nursery": Nursery()}
    for line in sys.stdin:
        whom, command, *arguments = json.loads(line)
        print(json.dumps(getattr(served[whom], command)(*arguments)), flush=True)


if __name__ == "__main__":
    main()
