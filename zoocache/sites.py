"""Sites: the models and functions that read through the cache, and what is counted of each.

The segment counts for the whole host, and outlives its processes. What costs
a database query anyway (a miss, a fill, a read that goes around the cache) is
counted there at once. A hit in the segment is counted in the process, and put
there with the next miss of its site, at the end of a request, or when
somebody here asks. Of the hits of a process's own copies one in some 48 is
looked at, and stands for all since the one before (csrc/python/zoo_level.c).
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from zoocache.shm import Cache, tally
from zoocache.shm.tally import Counts

QUERY, FUNCTION = "query", "function"
_MOST = 2_000  # of one process: what asks under ever new names is not counted by name
_VIEWS = ("django.views.generic.base", "rest_framework.views")
_LIBRARIES = ("django", "zoocache", "asgiref", "rest_framework", "contextlib", "functools")
_FLUSH_SECONDS = 1.0
_TEXT = 112  # bytes that the segment has room for


class Label(NamedTuple):
    """What a site is."""

    kind: str
    """QUERY or FUNCTION; "" for all that had no place of their own."""
    name: str
    """A model's label, or the dotted name of a function."""
    place: str
    """module:line or template:line where the queryset was first asked for in a process, or the
    class of views that has no line of its own there; "" if it is not known."""

    def text(self) -> str:
        text = "\0".join(self)
        over = len(text.encode("utf-8", "replace")) - _TEXT
        if over <= 0:
            return text
        # The end of a dotted name says more than its start.
        return "\0".join((self.kind, "…" + self.name[over + 3 :], self.place))


def label_of(text: str) -> Label:
    """The label that `Label.text` wrote."""
    kind, name, place, *_ = [*text.split("\0"), "", "", ""]
    return Label(kind, name, place)


class Site:
    """One of them, as this process counts it."""

    __slots__ = ("_cache", "_number", "hits", "label")

    def __init__(self, label: Label) -> None:
        self.label = label
        self.hits = 0
        """Not in the segment yet. Threads may lose one now and then."""
        self._cache: Cache | None = None
        self._number = 0

    def number_in(self, cache: Cache) -> int:
        """By which the segment knows it."""
        if self._cache is not cache:
            self._number, self._cache = tally.number_of(cache, self.label.text()), cache
        return self._number

    def add(self, cache: Cache | None, counts: Counts) -> None:
        """Counts in the segment, with the hits that are waiting."""
        if cache is None:
            return
        hits, self.hits = self.hits, 0
        tally.add(cache, self.number_in(cache), counts._replace(hits=counts.hits + hits))

    def bypassed(self, cache: Cache | None) -> None:
        self.add(cache, Counts(bypassed=1))

    @contextmanager
    def filling(self, cache: Cache) -> Iterator[Fill]:
        """A miss: what is computed in the block, and what becomes of it."""
        fill, began = Fill(), time.perf_counter()
        try:
            yield fill
        finally:
            fill.seconds = time.perf_counter() - began
            tally.note_fill(cache, fill.seconds)
            ns = int(fill.seconds * 1e9)
            self.add(cache, Counts(0, 1, fill.stored, fill.refused, 0, fill.size, ns))


class Fill:
    """What became of a miss."""

    __slots__ = ("refused", "seconds", "size", "stored")

    def __init__(self) -> None:
        self.stored = self.refused = False
        self.size = 0
        """Bytes that were stored."""
        self.seconds = 0.0

    def landed(self, stored: bool, size: int) -> None:
        self.stored, self.refused, self.size = stored, not stored, size if stored else 0


_sites: dict[Label, Site] = {}
_others = Site(Label("", "", ""))
_next_flush = 0.0


def of_query(model: str, place: str = "") -> Site:
    """The site of a model's queries, or of those that are asked for in one place."""
    return _site(Label(QUERY, model, place))


def of_function(name: str) -> Site:
    """The site of a cached function, a view or a fragment."""
    return _site(Label(FUNCTION, name, ""))


def _site(label: Label) -> Site:
    site = _sites.get(label)
    if site is None:
        site = _others if len(_sites) >= _MOST else _sites.setdefault(label, Site(label))
    return site


def place() -> str:
    """module:line of the caller, template:line, or a class of views; "" if it is none of them.

    It costs some microseconds: not for hits.
    """
    frame = sys._getframe(1)
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module == "django.template.base" and frame.f_code.co_name == "render_annotated":
            return _place_in_template(frame.f_locals.get("self"))
        if module in _VIEWS and frame.f_code.co_name == "dispatch":
            view = type(frame.f_locals.get("self"))
            return f"{view.__module__}.{view.__qualname__}"
        if module.partition(".")[0] not in _LIBRARIES:
            return f"{module}:{frame.f_lineno}" if _is_of_the_project(frame) else ""
        if frame.f_back is None:
            break
        frame = frame.f_back
    return ""


def _place_in_template(node: Any) -> str:
    name = getattr(getattr(node, "origin", None), "template_name", None) or "a template"
    line = getattr(getattr(node, "token", None), "lineno", None)
    return f"{name}:{line}" if line else str(name)


def _is_of_the_project(frame: object) -> bool:
    """Not a server's code, say, which renders a lazy response."""
    file = frame.f_code.co_filename  # type: ignore[attr-defined]
    return "site-packages" not in file and not file.startswith((_STANDARD, "<frozen"))


_STANDARD = os.path.dirname(threading.__file__) + os.sep


def flush(cache: Cache | None) -> None:
    """Puts the hits that are waiting into the segment."""
    if cache is not None:
        for site in (*_sites.values(), _others):
            if site.hits:
                site.add(cache, Counts())


def flush_now_and_then(cache: Cache | None) -> None:
    """The same, once a second at most: at the end of each request."""
    global _next_flush
    now = time.monotonic()
    if now >= _next_flush:
        _next_flush = now + _FLUSH_SECONDS
        flush(cache)


def counted(cache: Cache) -> dict[Label, Counts]:
    """What was counted of all sites of the host, in this segment."""
    return {label_of(text): counts for text, counts in tally.sites(cache).items()}


def forget_hits() -> None:
    """Drops those that wait to be counted: they are the parent's, or of a segment that is gone."""
    for site in (*_sites.values(), _others):
        site.hits = 0
        site._cache = None


os.register_at_fork(after_in_child=forget_hits)
