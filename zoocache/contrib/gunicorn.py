"""For gunicorn.conf.py: what a worker that died had under way is ended at once.

    from zoocache.contrib.gunicorn import child_exit

Without it, whoever next misses because of it does the same. With a `child_exit` of your own, call
this one in it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from zoocache import host
from zoocache.exceptions import ZooCacheError
from zoocache.shm import Cache, Segment
from zoocache.shm.intent import reap

logger = logging.getLogger("zoocache")

_PATIENCE = 0.1  # seconds: the master has other things to do


def child_exit(server: Any, worker: Any) -> None:
    """Is called in gunicorn's master, after each end of a worker.

    What a dead process announced is invalidated, in every segment of the workers' user: which of
    them it used, the master need not know, as it may not have loaded the application. Raises
    nothing.
    """
    try:
        with _acting_as(server.cfg.uid):
            for name in _segments():
                _reap(name)
    except OSError as error:
        logger.error("what a dead worker left cannot be looked for: %s", error)


@contextmanager
def _acting_as(uid: int) -> Iterator[None]:
    """A segment is its user's: gunicorn's `user` is the workers', not a master's who is root."""
    before = os.geteuid()
    if uid == before:
        yield
        return
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(before)


def _segments() -> list[str]:
    uid = os.geteuid()
    return [one.name for one in host.files() if one.uid == uid and not one.suffix]


def _reap(name: str) -> None:
    try:
        reap(Cache(Segment(name, wait=_PATIENCE)))
    except ZooCacheError as error:  # of another version, or gone meanwhile: not to be used here
        logger.debug("what dead workers left in %s was not looked at: %s", name, error)
