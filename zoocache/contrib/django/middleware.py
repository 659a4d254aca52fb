"""Middleware: requests whose reads agree with each other, and with what their user wrote."""

from __future__ import annotations

import time
from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from zoocache.contrib.django.options import options
from zoocache.contrib.django.routers import reading_primary
from zoocache.contrib.django.snapshots import snapshot
from zoocache.contrib.django.written import noting_writes

GetResponse = Callable[[HttpRequest], HttpResponseBase]
COOKIE = "zoocache_written"
_SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")


class SnapshotMiddleware:
    """Answers each safe request (GET, HEAD) from one state of the default database.

    Two lists on a page never disagree. Costs a transaction of one or two
    statements a request, also where everything comes from the cache.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.method not in _SAFE:
            return self.get_response(request)
        with snapshot():
            return self.get_response(request)


class ReadYourWritesMiddleware:
    """Keeps a user who has written away from replicas until they have caught up.

    A cookie remembers the time of the user's last write for the longest lag of
    `MAX_LAG`; until then `ReadYourWritesRouter` sends reads to the primary. What
    comes from the cache is never older than the write anyway.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        lag = max(options().max_lag.values(), default=0.0)
        with noting_writes() as writes, reading_primary(_age(request) <= lag):
            response = self.get_response(request)
        if writes and lag:
            response.set_cookie(COOKIE, f"{time.time():.3f}", max_age=int(lag) + 1, httponly=True)
        return response


def _age(request: HttpRequest) -> float:
    """Seconds since the user's last write; infinite where none is known of."""
    try:
        age = time.time() - float(request.COOKIES[COOKIE])
    except (KeyError, ValueError):
        return float("inf")
    # Of another host whose clock is ahead: as good as now. "nan" compares as false.
    return max(age, 0.0) if age == age else float("inf")
