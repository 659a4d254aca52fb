"""The pytest plugin: each worker of a test run has segments of its own, empty for every test.

It is there wherever zoocache is installed. `zoocache_isolate = false` in pytest's configuration
leaves the cache alone except in tests that ask for the fixture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import pytest

from zoocache import isolation, testing

_block = pytest.StashKey[ExitStack]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        "zoocache_isolate",
        "Give each test an empty cache of zoocache's that it shares with nobody.",
        type="bool",
        default=True,
    )
    parser.addini(
        "zoocache_size",
        "The most that a segment of zoocache's may take in tests, of each xdist worker's.",
        default=testing.SIZE,
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.getini("zoocache_isolate"):
        config.stash[_block] = block = ExitStack()
        block.enter_context(_own_segments(config))


def pytest_unconfigure(config: pytest.Config) -> None:
    block = config.stash.get(_block, None)
    if block is not None:
        block.close()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if _block in item.config.stash:
        testing.begin_anew()


@pytest.fixture
def zoocache(request: pytest.FixtureRequest) -> Iterator[testing.Isolated]:
    """The test's own cache: `stats()`, `clear()`, `advance(seconds)`."""
    with ExitStack() as stack:
        if not isolation.is_on():
            stack.enter_context(_own_segments(request.config))
        yield testing.Isolated()


@pytest.fixture
def assert_cached(zoocache: testing.Isolated) -> Callable[..., AbstractContextManager[None]]:
    """`with assert_cached():` fails unless what the block reads comes from the cache."""
    return testing.assert_cached


@pytest.fixture
def assert_invalidates(zoocache: testing.Isolated) -> Callable[..., AbstractContextManager[None]]:
    """`with assert_invalidates(...):` fails unless the block drops what depends on each."""
    return testing.assert_invalidates


def _own_segments(config: pytest.Config) -> AbstractContextManager[Any]:
    worker = getattr(config, "workerinput", {}).get("workerid", "")
    return testing.own_segments(config.getini("zoocache_size"), part=worker)
