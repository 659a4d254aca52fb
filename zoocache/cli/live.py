"""`top`: a segment, watched in a terminal."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from zoocache import host
from zoocache.cli.app import cache
from zoocache.cli.project import names_for
from zoocache.cli.screen import HISTORY, Screen, Worker, draw
from zoocache.exceptions import SegmentError
from zoocache.monitor import Monitor, hit_ratio
from zoocache.shm import Cache, path_of
from zoocache.shm.look import owner_pids

_POLL = 0.05  # seconds between looks at the samples of keys
_WORKERS = 2.0  # seconds between looks at the processes


def watch(interval: float, seconds: float | None, once: bool) -> None:
    """Shows screens, `interval` seconds apart, until a key is pressed or the time is over."""
    console = Console(file=sys.stdout)
    watched = _Watched(cache())
    if once or not console.is_terminal:
        end = time.monotonic() + interval
        while time.monotonic() < end:
            time.sleep(min(_POLL, interval))
            watched.poll()
        console.print(watched.screen(console))
        return
    with _Keys() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
        end = time.monotonic() + seconds if seconds is not None else float("inf")
        while True:
            live.update(watched.screen(console), refresh=True)
            due = min(time.monotonic() + interval, end)
            while time.monotonic() < due:
                if keys.pressed(min(_POLL, max(0.0, due - time.monotonic()))) in ("q", "Q"):
                    return
                watched.poll()
            if due >= end:
                return


class _Watched:
    """The segment of a name, also when another takes its place."""

    def __init__(self, target: Cache) -> None:
        self._monitor: Monitor | None = None
        self._history: deque[float | None] = deque(maxlen=HISTORY)
        self._workers: list[Worker] = []
        self._processes = _Processes()
        self._next_workers = 0.0
        self._name = target.segment.name
        self._begin(target)

    def _begin(self, target: Cache) -> None:
        self._monitor = Monitor(target, names_for(target))
        self._monitor.look()  # from here on there are rates

    def poll(self) -> None:
        if self._monitor is not None:
            self._monitor.poll()

    def screen(self, console: Console) -> RenderableType:
        monitor = self._current()
        if monitor is None:
            return Text(f"{path_of(self._name)} is gone. Waiting for a process that makes it anew.")
        view = monitor.look()
        self._history.append(hit_ratio(view.rates))
        now = time.monotonic()
        if now >= self._next_workers:
            self._next_workers = now + _WORKERS
            self._workers = self._processes.look(monitor.cache)
        segment = monitor.cache.segment
        screen = Screen(view, self._name, segment.size, list(self._history), self._workers)
        return draw(screen, console.width, console.height)

    def _current(self) -> Monitor | None:
        if self._monitor is not None and self._monitor.cache.segment.retired:
            self._monitor = None
        if self._monitor is None:
            try:
                self._begin(cache())
            except SegmentError:  # not yet
                return None
        return self._monitor


class _Processes:
    """The processes that use the segment."""

    def __init__(self) -> None:
        self._known: dict[int, psutil.Process] = {}

    def look(self, target: Cache) -> list[Worker]:
        found = []
        for pid in host.pids_using(path_of(target.segment.name)):
            if pid == os.getpid():
                continue
            try:
                process = self._process(pid)
                with process.oneshot():
                    memory = process.memory_info()
                    found.append(
                        Worker(
                            pid, time.time() - process.create_time(),
                            max(0, memory.rss - memory.shared), process.cpu_percent(),
                            process.status(), " ".join(process.cmdline()),
                        )
                    )  # fmt: skip
            except psutil.Error:  # gone meanwhile
                self._known.pop(pid, None)
        self._known = {worker.pid: self._known[worker.pid] for worker in found}
        hidden = owner_pids(target).count(0)
        if hidden:
            found.append(Worker(0, 0, 0, 0, "", f"{hidden} in other pid namespaces"))
        return found

    def _process(self, pid: int) -> psutil.Process:
        """The same object each time, for its use of the processor; a new one for a new process."""
        known = self._known.get(pid)
        if known is None or not known.is_running():
            known = self._known[pid] = psutil.Process(pid)
        return known


class _Keys:
    """Single keys of the terminal, without Enter, as long as it is open."""

    def __enter__(self) -> _Keys:
        self._terminal = _raw_terminal()
        self._has_keys = self._terminal.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._terminal.__exit__(None, None, None)

    def pressed(self, seconds: float) -> str:
        """The key that is pressed within so many seconds, or ""."""
        if not self._has_keys:
            time.sleep(seconds)
            return ""
        ready, _, _ = select.select([sys.stdin], [], [], seconds)
        return os.read(sys.stdin.fileno(), 1).decode(errors="replace") if ready else ""


@contextmanager
def _raw_terminal() -> Iterator[bool]:
    try:
        before = termios.tcgetattr(sys.stdin)
    except (termios.error, ValueError, OSError):  # no terminal
        yield False
        return
    try:
        tty.setcbreak(sys.stdin)
        yield True
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
