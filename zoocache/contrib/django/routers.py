"""A database router for sites with replicas."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.db import router

from zoocache.contrib.django.written import has_written

_primary: ContextVar[bool] = ContextVar("zoocache_primary", default=False)


@contextmanager
def reading_primary(only: bool = True) -> Iterator[None]:
    """Sends reads to where writes go, through `ReadYourWritesRouter`, unless `only` is False."""
    token = _primary.set(only or _primary.get())
    try:
        yield
    finally:
        _primary.reset(token)


class ReadYourWritesRouter:
    """Comes first in DATABASE_ROUTERS: lets the others choose, but not a replica that may lag.

    The primary of a model is what the other routers give for writes to it.
    """

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        wrote = _primary.get() or has_written()
        return router.db_for_write(model, **hints) if wrote else None
