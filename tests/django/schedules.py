"""Actors that go from one named point to the next when they are told to: all interleavings."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.db import connections

from zoocache import points

PATIENCE = 20


class Actor:
    """A worker: a thread with database connections of its own, for one work after another."""

    def __init__(self) -> None:
        self._works: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._stops: list[str] = []
        self.at = ""
        """The point at which it stands; empty when its work is over."""
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def begin(self, work: Callable[[], Any], stops: Iterable[str] = ()) -> None:
        """Hands it a work, of which it does nothing before the first step.

        It stops at each of these points as often as it is named.
        """
        self.at, self._stops = "the beginning", list(stops)
        self._works.put(work)
        self._wait()

    def step(self) -> None:
        """Lets it go on to its next point, or to the end."""
        if self.at:
            self._go.release()
            self._wait()

    def result(self) -> Any:
        """Lets it go on to the end; what its work gives, or raises."""
        while self.at:
            self.step()
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self._result

    def do(self, work: Callable[[], Any]) -> Any:
        self.begin(work)
        return self.result()

    def end(self) -> None:
        while self.at:
            self.step()
        self._works.put(None)
        self._thread.join(PATIENCE)

    def _wait(self) -> None:
        assert self._stopped.acquire(timeout=PATIENCE), f"it hangs after {self.at}"

    def _run(self) -> None:
        while (work := self._works.get()) is not None:
            self._stop("the beginning")
            try:
                self._result = work()
            except BaseException as error:
                self._error = error
            self.at = ""
            self._stopped.release()
        connections.close_all()

    def reached(self, name: str) -> None:
        if threading.current_thread() is self._thread and name in self._stops:
            self._stops.remove(name)
            self._stop(name)

    def _stop(self, name: str) -> None:
        self.at = name
        self._stopped.release()
        assert self._go.acquire(timeout=PATIENCE)


class Stage:
    """Two actors. `with Stage() as stage: ...`"""

    def __init__(self) -> None:
        self.reader, self.writer = Actor(), Actor()

    def __enter__(self) -> Stage:
        points.install(self._reached)
        return self

    def __exit__(self, *error: object) -> None:
        self.reader.end()
        self.writer.end()
        points.install(None)

    def _reached(self, name: str) -> None:
        self.reader.reached(name)
        self.writer.reached(name)


def schedules(reader: int, writer: int) -> Iterator[str]:
    """All orders of so many steps of both, like "rrwrww"."""
    for places in itertools.combinations(range(reader + writer), reader):
        yield "".join("r" if n in places else "w" for n in range(reader + writer))
