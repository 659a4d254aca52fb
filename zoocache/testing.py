"""What a project's own tests need: a segment of their own, and assertions.

With pytest all of it comes as fixtures (zoocache.pytest_plugin). Without::

    class CatalogueTest(ZooCacheMixin, TestCase):
        def test_the_front_page_is_cached(self):
            front_page()
            with self.assertCached():
                front_page()
"""

from __future__ import annotations

import itertools
import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any

from zoocache import codec, config, host, isolation, local, store
from zoocache.exceptions import SegmentError
from zoocache.scalars import WRITERS
from zoocache.shm import Cache, Outcome, Segment, path_of, unlink
from zoocache.shm.events import events
from zoocache.shm.explain import State, explain
from zoocache.shm.look import shape_of
from zoocache.shm.segment import shift_time
from zoocache.telling import told_cause

__all__ = ["Isolated", "ZooCacheMixin", "assert_cached", "assert_invalidates", "isolated"]

SIZE = "8MiB"
"""Of a segment in tests, where the settings do not say less."""

_FAKES = {"freezegun.api.FakeDate": date, "freezegun.api.FakeDatetime": datetime}
_LOCK = ".lock"
_OF_A_RUN = re.compile(r"-test-[0-9a-f]{8}(-gw[0-9]+)?$")
_AN_HOUR = 3600
_probes = itertools.count()


class Isolated:
    """A test's own cache, which is empty when the test begins."""

    def __init__(self) -> None:
        self._before = store.stats()
        self._ahead = 0.0

    @property
    def name(self) -> str:
        """Of the segment."""
        return config.resolve(["NAME"]).name

    def stats(self) -> dict[str, int]:
        """What `zoocache.stats` counts, since the test began."""
        return {key: n - self._before.get(key, 0) for key, n in store.stats().items()}

    def clear(self) -> None:
        """Drops everything."""
        store.clear()

    def advance(self, seconds: float) -> None:
        """Lets entries expire: for this process, so much more time has passed, until the test ends.

        What a test does to Python's clock (freezegun, time-machine) neither expires an entry
        nor keeps it fresh.
        """
        self._ahead += seconds
        shift_time(self._ahead)

    def assert_cached(self, *, hits: int | None = None) -> AbstractContextManager[None]:
        """`zoocache.testing.assert_cached`."""
        return assert_cached(hits=hits)

    def assert_invalidates(self, *things: Any) -> AbstractContextManager[None]:
        """`zoocache.testing.assert_invalidates`."""
        return assert_invalidates(*things)


@contextmanager
def isolated(size: int | str = SIZE, *, part: str = "") -> Iterator[Isolated]:
    """In the block, every segment that the settings name is an empty one of the block's own.

    So it is in processes that are started in it. The segments are removed at its end. In a block
    within a block, and in a test where pytest's plugin has done it, they are only emptied. A size
    is a bound; `part` tells apart what runs in parallel.
    """
    if not isolation.is_on():
        with own_segments(size, part):
            yield Isolated()
        return
    begin_anew()
    try:
        yield Isolated()
    finally:
        begin_anew()


@contextmanager
def own_segments(size: int | str, part: str) -> Iterator[None]:
    bound = str(config.parse_size(size))
    inherited = {key: os.environ.get(key) for key in (isolation.SUFFIX, isolation.SIZE)}
    run = inherited[isolation.SUFFIX] if part else None  # an xdist worker is part of a run
    suffix = "-".join(filter(None, [run or f"test-{secrets.token_hex(4)}", part]))
    os.environ |= {isolation.SUFFIX: suffix, isolation.SIZE: bound}
    config.changed()
    try:
        _sweep()
        begin_anew()
        yield
    finally:
        for name in _names("", "-*"):
            _remove(name)
        for key, value in inherited.items():
            os.environ.pop(key) if value is None else os.environ.update({key: value})
        config.changed()
        shift_time(0)


def _sweep() -> None:
    """Removes what runs that were killed have left, once it is an hour old and nobody's."""
    old = [one for one in host.files() if _is_left(one)]
    used = {mapping.inode for mapping in host.mappings()} if old else set()
    for one in old:
        if one.inode not in used:
            _remove(one.name)


def _is_left(file: host.Found) -> bool:
    is_ours = file.uid == os.geteuid() and file.group is None
    is_ours = is_ours and _OF_A_RUN.search(file.name) is not None
    return is_ours and not file.suffix and file.changed < time.time() - _AN_HOUR


def begin_anew() -> None:
    """Empties the segments of the run, and lets the time be the time again.

    One with a commit that was announced and never settled, by a process that a test killed, say,
    is made anew: what depends on it would miss for a minute.
    """
    shift_time(0)
    codec.learn = _learn_fake
    for name in _names(""):
        try:
            cache = Cache(Segment(name))
            shape = shape_of(cache)
            if not (shape.active_lanes or shape.miss_until):
                cache.clear()
                continue
        except SegmentError:  # whatever the test before has done to it
            pass
        _remove(name)
        config.changed()  # a handle of the old one would be good for a miss more


def _names(*ends: str) -> set[str]:
    """The names of this run's segments whose names go on like this after the suffix."""
    start, suffix = Path(path_of("")), os.environ[isolation.SUFFIX]
    return {
        path.name.removeprefix(start.name).removesuffix(_LOCK)
        for end in ends
        for lock in ("", _LOCK)
        for path in start.parent.glob(f"{start.name}*-{suffix}{end}{lock}")
    }


def _remove(name: str) -> None:
    unlink(name)
    Path(path_of(name) + _LOCK).unlink(missing_ok=True)


def _learn_fake(kind: type) -> bool:
    """What freezegun gives for a date is of a class of its own: it is kept as what it stands for.

    Else nothing that holds a date could be stored while the time is frozen.
    """
    real = _FAKES.get(f"{kind.__module__}.{kind.__qualname__}")
    if real is None or kind in WRITERS:
        return False
    WRITERS[kind] = WRITERS[real]
    return True


@contextmanager
def assert_cached(*, hits: int | None = None) -> Iterator[None]:
    """AssertionError unless what the block reads is served from the cache.

    That is: no query of the database by this thread, no miss of a function or a query in any
    process, and at least one hit, or as many as `hits` says.
    """
    __tracebackhide__ = True
    _require_cache()
    with ExitStack() as stack:
        watched = stack.enter_context(_watch_database())
        busy = object()
        local.busy.add(busy)  # so that each hit is counted one by one
        stack.callback(local.busy.discard, busy)
        before = store.stats()
        yield
        counts = {key: n - before.get(key, 0) for key, n in store.stats().items()}
    found, missed = counts["hits"] + counts["local"], counts["misses"]
    statements, reasons = watched()
    if statements or missed or not found or hits not in (None, found):
        wanted = "at least 1 hit" if hits is None else f"{hits} hits"
        causes = ", ".join(key for key in _CAUSES if counts[key]) or "nothing"
        counted = f"{len(statements)} queries of the database, {found} hits, missed: {causes}"
        due = f"not served from the cache, where {wanted} and nothing else was due: {counted}"
        raise AssertionError("\n  ".join([due, *reasons, *statements]))


_CAUSES = ("absent", "stale", "expired", "pending", "lapped", "corrupt")


@contextmanager
def assert_invalidates(*things: Any) -> Iterator[None]:
    """AssertionError unless the block drops, in every process, what depends on each of the things.

    A tag stands for all that `@cacheable(deps=[tag])` is asked for; a model or an instance for its
    table or row; a queryset of `Model.cached` for itself: it is read before the block, and must
    have to be read from the database after it. A transaction that is still open at the end of the
    block has invalidated nothing yet.
    """
    __tracebackhide__ = True
    if not things:
        raise TypeError("assert_invalidates() takes tags, instances, models or querysets")
    target = _require_cache()
    probes = [_probe(thing, target) for thing in things]
    since = max((event.number for event in events(target)), default=-1) + 1
    yield
    store.guard()  # Django's TestCase publishes when it is next looked for
    kept = [f"{label}: {verdict}" for label, look in probes if (verdict := look())]
    if kept:
        happened = dict.fromkeys(
            f"{event.text or 'everything'} ({told_cause(event.cause)})"
            for event in events(target, since)
        )
        told = ", ".join(happened) or "nothing at all"
        raise AssertionError("\n  ".join(["not invalidated", *kept, f"invalidated was: {told}"]))


Probe = tuple[str, Callable[[], str]]
"""What it is, and a look whether it is invalidated: "" if so, else what it is instead."""


def _probe(thing: Any, target: Cache) -> Probe:
    if isinstance(thing, str):
        return _probe_tags(thing, store.meaning([thing]), target)
    django = _django()
    if django is None:
        raise TypeError(f"{thing!r} is not a tag, and Django is not here to say what it is")
    if django.is_queryset(thing):
        return django.label_of(thing), django.probe(thing)
    return _probe_tags(django.label_of(thing), django.tags_of(thing), target)


def _probe_tags(label: str, tags: set[str], target: Cache) -> Probe:
    key = f"zoocache.testing:{os.getpid()}:{next(_probes)}"
    outcome = target.fill(key, b"", target.stamp(), tags=tags)
    if outcome is not Outcome.STORED:
        raise AssertionError(f"{label} cannot be watched: {outcome.name.lower()}")

    def look() -> str:
        state = explain(target, key).state
        if state in (State.STALE, State.RETIRED):
            return ""
        if state is State.PENDING:
            return "its commit is under way: the transaction ends after the block"
        if state is State.FRESH:
            return "what depends on it is served as before"
        return "what was to be invalidated was evicted: use a larger segment (zoocache_size)"

    return label, look


def _require_cache() -> Cache:
    cache = store.cache()
    if cache is not None:
        return cache
    if not store.settings().enabled:
        raise AssertionError(
            "nothing is cached: zoocache is switched off (ENABLED), or its settings are wrong"
        )
    raise AssertionError("nothing is cached: the segment cannot be opened, see the log")


@contextmanager
def _watch_database() -> Iterator[Callable[[], tuple[list[str], list[str]]]]:
    django = _django()
    if django is None:
        yield lambda: ([], [])
        return
    with django.watch() as watched:
        yield watched


def _django() -> Any:
    """What Django adds; None where zoocache's part for it is not in use.

    By way of sys.modules, as nothing here needs Django.
    """
    if "zoocache.contrib.django" not in sys.modules:
        return None
    from zoocache.contrib.django import asserting

    return asserting


class ZooCacheMixin:
    """For unittest's and Django's test cases, in front of them: a test has its own, empty cache."""

    zoocache: Isolated

    def setUp(self) -> None:
        block = isolated()
        self.zoocache = block.__enter__()
        self.addCleanup(block.__exit__, None, None, None)  # type: ignore[attr-defined]
        super().setUp()  # type: ignore[misc]

    def assertCached(self, *, hits: int | None = None) -> AbstractContextManager[None]:
        """`assert_cached`."""
        return assert_cached(hits=hits)

    def assertInvalidates(self, *things: Any) -> AbstractContextManager[None]:
        """`assert_invalidates`."""
        return assert_invalidates(*things)
