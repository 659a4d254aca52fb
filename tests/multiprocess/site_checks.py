"""What is asked of a site behind a real server, whichever it is, and load that judges answers."""

from __future__ import annotations

import itertools
import os
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException

from gunicorn_site import THINGS, Answer, Site, assert_all_show, assert_hits

READERS = ["row", "filter", "all", "declared", "added", "tracked", "outer"]
WRITERS = ["save", "update", "bulk_update", "raw", "replace"]
_numbers = itertools.count(1)


def new_name() -> str:
    """A name that tests/conftest.py knows for a test's, so that it would notice a leak."""
    run = os.environ.get("ZOOCACHE_TEST_RUN", "alone")
    return f"test-{run}-gunicorn-{os.getpid()}-{next(_numbers)}"


def change(site: Site, pk: int) -> int:
    """Write a value that the thing never had, so that nothing about it is cached."""
    value = site.read("database", pk).value + 1
    site.write("update", pk, value)
    return value


def check_write_is_seen(site: Site, how: str, write: str, pk: int) -> None:
    """A write is seen by every worker's next read, where each had been serving the old value."""
    old = change(site, pk)
    assert_all_show(old, [site.read(how, pk)])  # fills
    before = site.read_everywhere(how, pk)
    assert_all_show(old, before)
    assert_hits(before)
    writer = site.write(write, pk, old + 1)
    after = site.read_everywhere(how, pk)
    assert_all_show(old + 1, after)
    assert not all(answer.from_cache for answer in after), "nobody asked the database"
    workers = {answer.worker for answer in after}
    assert workers == site.pids() >= {writer.worker}


def check_overtaken_fill(site: Site, how: str, point: str, read: str, pk: int) -> bool:
    """A fill that began before a write is never served after it. True: in another process."""
    old = change(site, pk)
    with site.stopped(point, "GET", f"/read/{how}/{pk}/") as fill:
        writer = site.write("save", pk, old + 1)
        late = fill.go_on()
    assert late.worker == fill.worker
    assert late.value == (old if read == "after" else old + 1), "it stopped elsewhere"
    after = site.read_everywhere(how, pk)
    assert_all_show(old + 1, after)
    again = site.read_everywhere(how, pk)
    assert_all_show(old + 1, again)
    assert_hits(again)
    return writer.worker != fill.worker


class Ledger:
    """What was written and confirmed; each thing's values only ever grow."""

    def __init__(self) -> None:
        self.confirmed: Counter[int] = Counter()
        self.sent: Counter[int] = Counter()
        self.seen: Counter[int] = Counter()  # by anybody, in an answer that is over
        self.turns = {pk: threading.Lock() for pk in THINGS}
        self.stale: list[str] = []
        self.done: Counter[str] = Counter()
        self.workers: set[int] = set()
        self.lock = threading.Lock()

    def write(self, site: Site, how: str, pk: int) -> None:
        with self.turns[pk]:
            self.sent[pk] += 1
            self.workers.add(site.write(how, pk, self.sent[pk]).worker)
            self.confirmed[pk] = self.sent[pk]

    def read(self, site: Site, how: str, pk: int) -> Answer:
        due = max(self.confirmed[pk], self.seen[pk])
        answer = site.read(how, pk)
        if not due <= answer.value <= self.sent[pk]:
            self.blame(site, pk, f"{how} of {pk}: {due} was due, got {answer}")
        with self.lock:
            self.seen[pk] = max(self.seen[pk], answer.value)
        self.done["hits"] += answer.from_cache
        self.workers.add(answer.worker)
        return answer

    def blame(self, site: Site, pk: int, told: str) -> None:
        self.stale.append(told)


@contextmanager
def load(site: Site, ledger: Ledger, clients: int = 6) -> Iterator[None]:
    """Clients that read and write as fast as they can. What breaks with its worker is lost."""
    stop, errors = threading.Event(), []

    def client(seed: int) -> None:
        chance = random.Random(seed)
        while not stop.is_set():
            pk, verb = chance.randint(10, 14), "write" if chance.random() < 0.2 else "read"
            how = chance.choice(WRITERS if verb == "write" else READERS)
            try:
                getattr(ledger, verb)(site, how, pk)
                ledger.done[verb] += 1
            except (ConnectionError, HTTPException):
                ledger.done["lost"] += 1
            except BaseException as error:  # a timeout above all: somebody is stuck
                errors.append(f"client {seed}, {verb} {how} of {pk}: {error!r}")
                stop.set()

    threads = [threading.Thread(target=client, args=[seed]) for seed in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
        assert not errors, errors
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not errors, errors
    assert not ledger.stale, ledger.stale[:10]


def assert_goes_on(site: Site, ledger: Ledger) -> None:
    """Every worker shows the latest values, and caches them."""
    for pk in range(10, 15):
        ledger.write(site, "save", pk)
        for how in READERS:
            assert_all_show(ledger.sent[pk], [site.read(how, pk)])
        answers = site.read_everywhere("outer", pk)
        assert_all_show(ledger.sent[pk], answers)
        assert_hits(answers)
