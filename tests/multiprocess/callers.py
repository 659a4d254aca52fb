"""Processes that call a cached function, and do in it what they are told.

They tell of each step: "waiting" when they begin to wait for another's flight, "computing"
when they are in the computation, which then goes on as told, and "returned" or "raised".
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import queue
import signal
import threading
from multiprocessing.connection import Connection
from typing import Any

from zoocache import cacheable, configure, invalidate, store
from zoocache.shm import Flight, Landing

LONG = 60  # seconds that nobody is to wait
SOON = 20  # seconds in which whatever needs none must be over

# In a caller: its end of the pipe.
_pipe: Connection
_sending = threading.Lock()
_results: queue.SimpleQueue[Any] = queue.SimpleQueue()  # of computations that are tasks


def tell(*what: Any) -> None:
    with _sending:
        _pipe.send(what)


def compute(n: int) -> Any:
    tell("computing")
    how, value = _pipe.recv()
    if how == "raise":
        raise LookupError(value)
    return value


async def compute_in_a_task(n: int) -> Any:
    tell("computing")
    while _results.empty():
        await asyncio.sleep(0.001)
    return _results.get()


def call(n: int, options: dict[str, Any]) -> None:
    function = cacheable(key=lambda n: n, **options)(compute)
    try:
        tell("returned", function(n))
    except LookupError as error:
        tell("raised", error.args[0])


def call_in_a_task(n: int, options: dict[str, Any]) -> None:
    function = cacheable(key=lambda n: n, **options)(compute_in_a_task)
    tell("returned", asyncio.run(function(n)))


def tasks_in_threads(times: int, n: int, options: dict[str, Any]) -> None:
    for _ in range(times):
        threading.Thread(target=call_in_a_task, args=(n, options), daemon=True).start()


def wait_in_threads(times: int, key: bytes) -> None:
    def wait() -> None:
        cache = store.cache()
        assert cache is not None
        landing = Flight(cache, key, LONG).wait(SOON)
        tell("landed", landing, cache.get(key) is not None)

    for _ in range(times):
        threading.Thread(target=wait, daemon=True).start()


def lead_all() -> None:
    """Leads a flight in every slot of the table, for a minute."""
    cache = store.cache()
    assert cache is not None
    led, taken, n = [], -1, 0
    while taken != (taken := cache.segment.check().flights_taken):
        led += [Flight(cache, b"lead %d" % i, LONG) for i in range(n, n + 20_000)]
        n += 20_000
    tell("led", taken)


def shift_time(seconds: float) -> None:
    cache = store.cache()
    assert cache is not None
    cache.segment.shift_time(seconds)
    tell("shifted")


def serve(pipe: Connection) -> None:
    global _pipe
    _pipe = pipe
    signal.alarm(5 * LONG)  # whatever becomes of the test
    store._frameworks.clear()  # forked, it may have one of another test's
    init, poll = Flight.__init__, Flight.poll

    def seen(self: Flight, cache: Any, key: bytes, lease: float) -> None:
        init(self, cache, key, lease)
        if not self.leads and key.startswith(b"f"):
            waits.append(self)

    def watched(self: Flight, wait_ms: int = 0) -> Landing | None:
        if self in waits:
            waits.remove(self)
            tell("waiting")
        return poll(self, wait_ms)

    waits: list[Flight] = []
    Flight.__init__ = seen
    Flight.poll = watched
    commands = [call, tasks_in_threads, wait_in_threads, lead_all, shift_time]
    while True:
        try:
            name, arguments = pipe.recv()
        except EOFError:
            os._exit(0)
        if name == "return":
            _results.put(arguments)
        elif name == "configure":
            configure(**arguments[0])
            tell("configured")
        elif name == "invalidate":
            invalidate(*arguments)
            tell("invalidated")
        else:
            next(c for c in commands if c.__name__ == name)(*arguments)


class Caller:
    def __init__(self, how: str) -> None:
        self.how = how
        context: Any = multiprocessing.get_context(how)
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def tell(self, name: str, *arguments: Any) -> None:
        self.pipe.send((name, arguments))

    def call(self, n: int = 1, **options: Any) -> None:
        self.tell("call", n, {"wait": LONG, **options})

    def go_on(self, how: str, value: Any = None) -> None:
        self.pipe.send((how, value))

    def hear(self) -> tuple[Any, ...]:
        assert self.pipe.poll(SOON), f"the {self.how}ed caller is stuck"
        return self.pipe.recv()

    def is_silent(self) -> bool:
        return not self.pipe.poll()

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.process.pid, number)

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.process.close()
        self.pipe.close()
