"""What the tests of commits share: a product, a write of it, and what the segment knows of it."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable
from typing import Any

from conftest import Worker
from django.db import connections
from shop import routing
from shop.models import Brand, Category, Leaf, Product, Tag

from zoocache import store
from zoocache.contrib.django import sessions
from zoocache.shm.intent import Quarantined, quarantined


def connection() -> Any:
    return connections[routing.active]


def raw(*statements: str) -> None:
    with connection().cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def below_django(*statements: str) -> None:
    """Runs statements that are no business of the cache."""
    cursor = connection().connection.cursor()
    for statement in statements:
        cursor.execute(statement)
    cursor.close()


def name_of(manager: str = "cached", pk: int = 1) -> str:
    return str(getattr(Product, manager).get(pk=pk).name)


def tag() -> str:
    return str(Tag.cached.get(pk=1).name)


UNTOUCHED = (Brand, Category, Leaf, Tag)


def untouched() -> None:
    """Reads of tables that no write here touches.

    Announcements are kept by hash: any of these may have to miss, but not all.
    """
    for model in UNTOUCHED:
        model.cached.get(pk=1)


def update(name: str = "new", pk: int = 1) -> None:
    Product.objects.filter(pk=pk).update(name=name)


def connected(work: Callable[[], Any]) -> Callable[[], Any]:
    """The work on a connection that is open already."""

    def run() -> Any:
        connection().ensure_connection()
        return work()

    return run


class Committer(Worker):
    """Stops at a point of a write. What connecting does, or a generator before its `yield`, is not
    part of the write.
    """

    def __init__(self, work: Callable[[], Any], pause_at: str) -> None:
        self._armed = threading.Event()

        def run() -> None:
            name_of(), untouched()  # these are what others may be served
            steps = work() if inspect.isgeneratorfunction(work) else None
            if steps is not None:
                next(steps)
            self._armed.set()
            next(steps, None) if steps is not None else work()

        super().__init__(run, pause_at=pause_at)

    def _reached(self, name: str) -> None:
        if self._armed.is_set():
            super()._reached(name)


def segment() -> Any:
    cache = store.cache()
    assert cache is not None
    return cache


def in_quarantine() -> list[Quarantined]:
    return quarantined(segment())


def lanes() -> int:
    return int(segment().segment.check().lanes_taken)


def look() -> None:
    """What a miss does once a second."""
    sessions._next_look = 0.0
    sessions.look_for_ended(connection(), _own_name(), segment())


def _own_name() -> str:
    from zoocache.contrib.django.connection import state_of

    return str(state_of(connection()).session.named().name)


def assert_released(queries: Callable[..., Any]) -> None:
    """Nothing is announced any more, and hits are hits."""
    assert in_quarantine() == []
    assert lanes() == 0
    assert name_of() == name_of("objects")
    with queries(0):
        name_of()


def wait_until(condition: Callable[[], Any], patience: float = 10) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"not within {patience} s"
        time.sleep(0.01)
