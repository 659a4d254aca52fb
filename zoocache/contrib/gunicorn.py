"""For gunicorn.conf.py: what a worker that died had under way is ended at once.

    from zoocache.contrib.gunicorn import child_exit

Without it, whoever next misses because of it does the same. With a `child_exit` of your own, call
this one in it.
"""

from __future__ import annotations

import logging
import os
import pwd
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

    What a dead process announced is invalidated, in every segment of the workers' user and of
    groups that they are in: which of them it used, the master need not know, as it may not have
    loaded the application. Raises nothing.
    """
    uid = server.cfg.uid
    try:
        with _acting_as(uid):
            for name in _segments(uid):
                _reap(name)
        for name in _shared(_groups(uid, server.cfg.gid)):  # as it is: root is in every group
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


def _segments(uid: int) -> list[str]:
    found = (one for one in host.files() if one.group is None and not one.suffix)
    return [one.segment for one in found if one.uid == uid]


def _groups(uid: int, gid: int) -> set[int]:
    """The groups of the workers, or more: without `initgroups`, they have the master's."""
    groups = {gid, *os.getgroups()}
    try:
        return groups.union(os.getgrouplist(pwd.getpwuid(uid).pw_name, gid))
    except KeyError:  # a number without a name
        return groups


def _shared(groups: set[int]) -> list[str]:
    return [one.segment for one in host.files() if one.group in groups and not one.suffix]


def _reap(name: str) -> None:
    try:
        reap(Cache(Segment(name, wait=_PATIENCE)))
    except ZooCacheError as error:  # of another version, or gone meanwhile: not to be used here
        logger.debug("what dead workers left in %s was not looked at: %s", name, error)
