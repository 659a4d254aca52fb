"""What the status page shows: which segments there are, and how one of them is doing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from django.conf import settings
from django.core.cache import caches
from django.utils.module_loading import import_string

from zoocache import config, host, local, sites, store
from zoocache.contrib.django import known
from zoocache.contrib.django import tags as orm_tags
from zoocache.contrib.django.cache import ZooCache
from zoocache.contrib.django.places import Place
from zoocache.exceptions import ConfigError, ZooCacheError
from zoocache.shm import Cache, path_of, tally
from zoocache.shm.events import Event, events
from zoocache.shm.look import LOGS, census, owner_pids, shape_of
from zoocache.telling import Names, dropped, printable

_MOST_BUCKETS = 8_192  # of the index, counted at each look: some 10 ms
_MOST_EVENTS = 400
_MOST_DROPPED = 30
_MOST_TAGS = 6  # of one invalidation
_MOST_WORKERS = 100
_MOST_COMMAND = 120  # characters
_HOT_SECONDS = 60.0
_WORKERS_SECONDS = 4.0  # to look at all processes of a host may take 100 ms


class Used(NamedTuple):
    """A segment that the settings name."""

    name: str
    by: tuple[str, ...]
    """"ZOOCACHE", or aliases of CACHES."""
    place: Place
    is_main: bool
    """Is it the one of the ORM and of functions?"""
    tags: tuple[str, ...] = ()
    """What drops the entries of the aliases."""


def used() -> list[Used]:
    """The segments that this project uses, ZOOCACHE's first."""
    try:
        main = config.resolve(["NAME"]).name
    except ConfigError:
        main = "?"  # to look at it says why
    found = {main: Used(main, ("ZOOCACHE",), store, True)}
    for alias, backend in _backends():
        place = backend.place
        name = getattr(place, "name", main)
        there = found.get(name) or Used(name, (), place, False)
        found[name] = there._replace(
            by=(*there.by, f"CACHES[{alias!r}]"), tags=(*there.tags, *backend.tags)
        )
    return list(found.values())


def _backends() -> Iterator[tuple[str, ZooCache]]:
    for alias, given in settings.CACHES.items():
        if issubclass(import_string(given["BACKEND"]), ZooCache):
            backend: Any = caches[alias]
            yield alias, backend


def look(one: Used) -> dict[str, Any]:
    """How a segment is doing, for JSON; counters are since it was made. ZooCacheError if it is not
    to be reached."""
    cache = one.place.cache() or one.place.writer()
    if cache is None:
        raise ZooCacheError(
            f"There is no segment {path_of(config.segment_name(one.name))} yet: the first process "
            f"that reads makes it."
        )
    if one.is_main:
        local.count_hits()
        sites.flush(cache)
    ring = events(cache)
    return {
        "now": time.time(),
        "name": one.name,
        "path": path_of(cache.segment.name),
        "size": cache.segment.size,
        "counters": cache.stats(),
        "spans": {
            "limits": [limit if limit < float("inf") else None for limit in tally.LIMITS],
            "gets": tally.gets(cache)._asdict(),
            "fills": tally.fills(cache)._asdict(),
        },
        **_shape(cache),
        "sites": _sites(cache),
        **_invalidations(cache, ring),
        "workers": _workers(cache),
        "hidden": owner_pids(cache).count(0),
    }


def _shape(cache: Cache) -> dict[str, Any]:
    shape, counted = shape_of(cache), census(cache, _MOST_BUCKETS)
    words = counted.entries + counted.lost + counted.tentative
    return {
        "age": shape.age,
        "commits": shape.active_lanes,
        "counted": counted.share,
        "entries": {
            "fresh": counted.fresh,
            "stale": counted.stale,
            "expired": counted.expired,
            "pending": counted.pending,
            "fresh_bytes": counted.fresh_bytes,
            "other_bytes": counted.other_bytes,
        },
        "index": words / (8 * shape.buckets),
        "logs": [
            {
                "name": name,
                "size": log.size,
                "written": log.written,
                "head": log.head,
                "fresh": counted.fresh_in[name],
                "other": counted.other_in[name],
            }
            for name, log in zip(LOGS, (shape.probation, shape.main), strict=True)
        ],
    }


def _sites(cache: Cache) -> list[dict[str, Any]]:
    return [
        {**label._asdict(), **counts._asdict()} for label, counts in sites.counted(cache).items()
    ]


_names: dict[str, tuple[Cache, Names]] = {}


def names_of(cache: Cache) -> Names:
    """The tags of the project's tables, and what events have told of others."""
    there = _names.get(cache.segment.name)
    if there is None or there[0] is not cache:
        there = cache, Names(cache, known.tags(), orm_tags.told)
        _names[cache.segment.name] = there
    return there[1]


def _invalidations(cache: Cache, ring: list[Event]) -> dict[str, Any]:
    names = names_of(cache)
    names.learn_events(ring)
    since = time.time() - _HOT_SECONDS
    hot = Counter(event.tag for event in ring if event.when >= since)
    return {
        "dropped": [
            {
                "when": one.when,
                "pid": one.pid,
                "cause": one.cause,
                "names": [printable(name) for name in one.names[:_MOST_TAGS]],
                "more": one.unnamed + max(0, len(one.names) - _MOST_TAGS),
            }
            for one in dropped(ring[-_MOST_EVENTS:], names)[:_MOST_DROPPED]
        ],
        "hot_tags": [
            {"name": printable(names.of(tag)), "times": n} for tag, n in hot.most_common(8)
        ],
    }


_processes: dict[str, tuple[float, list[host.Process]]] = {}


def _workers(cache: Cache) -> list[dict[str, Any]]:
    """The processes that have the segment mapped, as they were some seconds ago at most."""
    name, now = cache.segment.name, time.monotonic()
    looked, found = _processes.get(name, (0.0, []))
    if not looked or now - looked > _WORKERS_SECONDS:
        pids = host.pids_using(path_of(name))[:_MOST_WORKERS]
        found = [one for one in map(host.process, pids) if one is not None]
        _processes[name] = now, found
    return [{**one._asdict(), "command": one.command[:_MOST_COMMAND]} for one in found]
