"""Signals of the cache, for whoever wants to count, log or test: nobody pays who does not listen.

`hit`, `miss` and `bypass` tell of each read in this process; the sender is the
model, None for a function. `invalidate` tells of what this process drops:
sender None. Receivers run in the thread of the read, after it. What they raise
is logged by Django, and stays with them.

    hit, miss, bypass   name, place, key, seconds, reason, stored, size
    invalidate          tags (None: everything), cause

See zoocache.notices.Read and Drop for what these are. While anybody is
connected to one of the first three, each cached read of the process goes
through the code that tells of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from django.apps import apps
from django.dispatch import Signal

from zoocache import notices
from zoocache.notices import Drop, Read
from zoocache.sites import QUERY

__all__ = ["bypass", "hit", "invalidate", "miss"]


class _Signal(Signal):
    """Tells when its first receiver comes, and when its last one goes."""

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__()
        self._changed = changed

    def connect(self, *args: Any, **kwargs: Any) -> None:
        super().connect(*args, **kwargs)
        self._changed()

    def disconnect(self, *args: Any, **kwargs: Any) -> bool:
        gone = super().disconnect(*args, **kwargs)
        self._changed()
        return gone


def _reads_changed() -> None:
    wanted = any(signal.has_listeners() for signal in _BY_KIND.values())
    (notices.listen_to_reads if wanted else notices.ignore_reads)(_tell_read)


def _drops_changed() -> None:
    wanted = invalidate.has_listeners()
    (notices.listen_to_drops if wanted else notices.ignore_drops)(_tell_drop)


hit = _Signal(_reads_changed)
miss = _Signal(_reads_changed)
bypass = _Signal(_reads_changed)
invalidate = _Signal(_drops_changed)

_BY_KIND = {notices.HIT: hit, notices.MISS: miss, notices.BYPASS: bypass}


def _tell_read(read: Read) -> None:
    signal = _BY_KIND[read.kind]
    if not signal.receivers:
        return _reads_changed()  # receivers that nobody holds go without a word
    signal.send_robust(
        sender=_model_of(read.site.name) if read.site.kind == QUERY else None,
        name=read.site.name,
        place=read.site.place,
        key=read.key,
        seconds=read.seconds,
        reason=read.reason,
        stored=read.stored,
        size=read.size,
    )
    return None


@cache
def _model_of(label: str) -> Any:
    try:
        return apps.get_model(label)
    except (LookupError, ValueError):  # of a migration, say
        return None


def _tell_drop(drop: Drop) -> None:
    if not invalidate.receivers:
        return _drops_changed()
    invalidate.send_robust(sender=None, tags=drop.tags, cause=drop.cause)
    return None
