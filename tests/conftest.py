"""Segments of a test's own, a leak check at the end, and figures in the summary.

`segment_name` is unique to the test and removed after it, with everything whose
name begins with it: segments, and the lock files beside them. `segment` and
`cache` are small ones of that name.
`evidence("what", operations=..., kills=...)` puts figures into the terminal
summary, also when the test passes and under xdist.
"""

from __future__ import annotations

import gc
import os
import re
import secrets
import signal
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import zoocache
from zoocache import config, sites, store
from zoocache.shm import MIN_SIZE, Cache, Segment, path_of, unlink

# One id for the run: xdist's workers, and all children of tests, inherit it.
RUN = os.environ.setdefault("ZOOCACHE_TEST_RUN", secrets.token_hex(3))
PREFIX = f"test-{RUN}-"

# What names no segment must not use the one that the user's own programs use.
UNNAMED = f"{PREFIX}unnamed"
os.environ.setdefault("ZOOCACHE_NAME", UNNAMED)

# Of a run in a shell's background: its children shall heed an interrupt all the same.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_leaks = pytest.StashKey[list[str]]()


def pytest_collection_finish() -> None:
    """Thousands of tests are no garbage: collections in the tests need not look at them."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def segment_name(request: pytest.FixtureRequest) -> Iterator[str]:
    """A name for this test's segment. `segment_name + "-x"` is this test's, too."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw")
    readable = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name)[:40].strip("-")
    name = f"{PREFIX}{worker}-{readable}-{zlib.crc32(request.node.nodeid.encode()):08x}"
    yield name
    for leftover in _files(name):
        _remove(leftover)


@pytest.fixture
def short_name(segment_name: str) -> Iterator[str]:
    """A shorter one, for what takes 64 characters or adds some: a setting, a socket's path."""
    test, run, worker, *_, number = segment_name.split("-")
    name = f"{test}-{run}-{worker}-{number}"
    yield name
    for leftover in _files(name):
        _remove(leftover)


@pytest.fixture
def default_cache(short_name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cache]:
    """The cache of `@cacheable`, in a segment of this test's own, without a framework."""
    monkeypatch.setattr(store, "_frameworks", [])
    zoocache.configure(name=short_name, size="1MiB")
    cache = store.cache()
    assert cache is not None
    yield cache
    config.clear_overrides()


@pytest.fixture(autouse=True)
def _no_hits_of_the_test_before() -> None:
    sites.forget_hits()


@pytest.fixture
def segment(segment_name: str) -> Segment:
    return Segment(segment_name, MIN_SIZE)


@pytest.fixture
def cache(segment: Segment) -> Cache:
    return Cache(segment)


@pytest.fixture
def evidence(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Puts figures into the terminal summary."""

    def note(what: str, **figures: int) -> None:
        text = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in figures.items())
        record_property("evidence", f"{what}: {text}")

    return note


def _files(prefix: str) -> list[Path]:
    """Segments whose names begin with `prefix`, and what lies beside them."""
    path = Path(path_of(prefix))
    return sorted(path.parent.glob(path.name + "*"))


def _remove(path: Path) -> None:
    """Whatever uses the segment learns of it; a lock file may be all that is left."""
    start = len(Path(path_of("")).name)
    unlink(path.name[start:])
    path.unlink(missing_ok=True)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput"):
        return  # the controller looks, when all workers have ended
    unlink(UNNAMED)
    leaks = _files(PREFIX)
    for path in leaks:
        _remove(path)
    session.config.stash[_leaks] = [str(path) for path in leaks]
    if leaks and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    leaks = config.stash.get(_leaks, [])
    if leaks:
        terminalreporter.section("segments left behind", sep="=", red=True)
        for path in leaks:
            terminalreporter.line(f"{path} (removed now)")
    lines = [
        text
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, text in report.user_properties
        if name == "evidence"
    ]
    if lines:
        terminalreporter.section("what was checked", sep="-")
        for line in sorted(lines):
            terminalreporter.line(line)
