"""A panel for django-debug-toolbar: what the cache had for this request, and why not.

DEBUG_TOOLBAR_PANELS = [..., "zoocache.contrib.django.debug_toolbar.ZooCachePanel"]
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import Any

from debug_toolbar.panels import Panel

from zoocache import notices, store
from zoocache.contrib.django import tags as orm_tags
from zoocache.contrib.django.why import WatchedRead, causes_of, verdict_of, watching
from zoocache.notices import Read, collecting
from zoocache.shm.explain import State
from zoocache.sites import FUNCTION

_MOST_TAGS = 30  # of one read
_PLURALS = {notices.HIT: "hits", notices.MISS: "misses", notices.BYPASS: "bypasses"}


class ZooCachePanel(Panel):  # type: ignore[misc]
    """Hits, misses and bypasses of a request, with reasons, tags and times."""

    is_async = True
    title = "Cached reads"
    nav_title = "zoocache"
    template = "zoocache/debug_panel.html"

    @property
    def nav_subtitle(self) -> str:
        stats = self.get_stats()
        return f"{stats['counts']}, {stats['ms']:.2f} ms" if "counts" in stats else ""

    def enable_instrumentation(self) -> None:
        self._watching = ExitStack()
        self._reads: list[WatchedRead] = self._watching.enter_context(watching())
        self._noted: list[Read] = self._watching.enter_context(collecting())

    def disable_instrumentation(self) -> None:
        self._watching.close()

    def generate_stats(self, request: Any, response: Any) -> None:
        queries = [_told_query(read) for read in self._reads]
        functions = [_told_function(read) for read in self._noted if read.site.kind == FUNCTION]
        counts = Counter(one["kind"] for one in (*queries, *functions))
        told = [f"{counts[kind]} {plural}" for kind, plural in _PLURALS.items()]
        self.record_stats(
            {
                "queries": queries,
                "functions": functions,
                "counts": ", ".join(told),
                # What functions read is within their time.
                "ms": sum(one["ms"] for one in queries),
            }
        )


def _told_query(read: WatchedRead) -> dict[str, Any]:
    target, entry = store.cache(), read.entry
    stale = target is not None and entry is not None and entry.state is State.STALE
    tags = sorted(map(orm_tags.told, read.tags))
    return {
        "kind": read.kind,
        "name": read.model._meta.label,
        "place": read.place,
        "why": verdict_of(read),
        "causes": list(causes_of(target, read)) if stale and target is not None else [],
        "tags": tags[:_MOST_TAGS],
        "more_tags": max(0, len(tags) - _MOST_TAGS),
        "sql": read.sql,
        "params": repr(tuple(read.params)) if read.sql else "",
        "ms": 1000 * read.seconds,
    }


def _told_function(read: Read) -> dict[str, Any]:
    if read.kind == notices.HIT:
        why = "a hit"
    elif read.kind == notices.BYPASS:
        why = f"not cached, because {read.reason}"
    else:
        why = f"a miss, stored in {read.size:,} bytes" if read.stored else "a miss, and not stored"
    return {"kind": read.kind, "name": read.site.name, "why": why, "ms": 1000 * read.seconds}
