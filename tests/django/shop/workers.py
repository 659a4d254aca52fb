"""Another worker: a thread, which has database connections of its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import connections

T = TypeVar("T")


def elsewhere(act: Callable[[], T]) -> T:
    """What `act` gives, or raises, in another worker."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_then_close, act).result()


def _then_close(act: Callable[[], T]) -> T:
    try:
        return act()
    finally:
        connections.close_all()
