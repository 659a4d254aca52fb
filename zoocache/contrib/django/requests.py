"""When the request under way began.

A result may be computed from an instance that was loaded at any time since then,
so what functions, views, fragments and serializers compute counts from there.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from django.core.signals import request_finished, request_started

from zoocache import sites, store

_began: ContextVar[int | None] = ContextVar("zoocache_request_began", default=None)


def began() -> int | None:
    """The stamp of the request's start; None outside of one."""
    return _began.get()


def install() -> None:
    request_started.connect(_start, dispatch_uid="zoocache.request_started")
    request_finished.connect(_end, dispatch_uid="zoocache.request_finished")


def _start(**kwargs: Any) -> None:
    target = store.cache()
    _began.set(None if target is None else target.stamp())


def _end(**kwargs: Any) -> None:
    _began.set(None)
    sites.flush_now_and_then(store.cache())
