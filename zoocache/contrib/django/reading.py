"""Cached SELECTs, at the level of the compiler.

`SQLCompiler.execute_sql` returns rows as the driver gave them; what is built of
them (instances, dicts, tuples, numbers) is Django's own work afterwards, on a
hit as on a miss. So the key needs only the database, the SQL and its
parameters, and a hit cannot differ from a miss in type, annotation or relation.

A query is cached if it carries a mark, which `zoocache()` puts on it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from hashlib import blake2b
from typing import Any, NamedTuple

from django.core.exceptions import EmptyResultSet
from django.db.models.sql.constants import MULTI, SINGLE
from django.utils.asyncio import async_unsafe

from zoocache import codec, points, store
from zoocache.cacheable import current_frame
from zoocache.contrib.django.connection import ConnectionState, state_of
from zoocache.contrib.django.dependencies import dependencies
from zoocache.contrib.django.footprint import footprint_of, plain
from zoocache.exceptions import UnstorableError
from zoocache.shm import Cache, Outcome


class Mark(NamedTuple):
    """On `Query.zoocache`: the query may be served from the cache. None there: it may not."""

    ttl: float | None
    """Seconds; None: the default of the settings."""


UNMARKED = Mark(None)


# The mark of the queryset that is being prefetched for: what it fetches on the
# way is part of it, though Django builds those queries from plain managers.
prefetching: ContextVar[Mark | None] = ContextVar("zoocache_prefetching", default=None)


def mark_of(query: Any) -> Mark | None:
    """The mark of a query, or of the query that an aggregate is computed over."""
    query = getattr(query, "inner_query", None) or query
    mark: Mark | None = getattr(query, "zoocache", UNMARKED)
    return prefetching.get() if mark is UNMARKED else mark


def read(
    compiler: Any, execute: Callable[[], Any], mark: Mark, result_type: str, chunked: bool
) -> Any:
    """What `execute` would return, from the cache if it is there and may be used."""
    target = store.cache()
    query = compiler.query
    if (
        target is None
        or chunked
        or result_type not in (MULTI, SINGLE)
        or query.select_for_update
        or query.explain_info
    ):
        return _uncached(execute)
    return _Read(compiler, execute, mark, result_type, target).result()


def _uncached(execute: Callable[[], Any]) -> Any:
    """Reads from the database; a computation that uses it would not know what it depends on."""
    frame = current_frame()
    if frame is not None:
        frame.storable = False
    return execute()


@async_unsafe
def _as_django_does() -> None:
    """Raises SynchronousOnlyOperation where a query would, so that a hit behaves like a miss."""


class _Read:
    """One SELECT that may come from the cache."""

    def __init__(
        self, compiler: Any, execute: Callable[[], Any], mark: Mark, result_type: str, target: Cache
    ) -> None:
        self.compiler = compiler
        self.execute = execute
        self.mark = mark
        self.single = result_type == SINGLE
        self.target = target
        self.state: ConnectionState = state_of(compiler.connection)

    def result(self) -> Any:
        try:
            sql, params = self.compiler.as_sql()
        except EmptyResultSet:
            return self.execute()  # Django's answer needs no query
        key = self._key(sql, params)
        if key is None or self.state.bypassed():
            return _uncached(self.execute)
        _as_django_does()
        if self.state.dirty and self.state.reads_own_writes(
            footprint_of(self.compiler, sql, params).tables
        ):
            return self._execute_compiled(sql, params)
        rows = self._find(key)
        if rows is not None:
            return self._as_result(rows)
        return self._fill(key, sql, params)

    def _key(self, sql: str, params: Any) -> bytes | None:
        try:
            # Django cuts off columns that DISTINCT made it add: the SQL does not tell which.
            extra = getattr(self.compiler, "has_extra_select", False)  # not on aggregates
            width = self.compiler.col_count if extra else None
            named = codec.encode_name((sql, plain(params), self.single, width, self.mark.ttl))
        except UnstorableError:
            return None
        return b"q" + blake2b(self.state.identity() + named, digest_size=20).digest()

    def _find(self, key: bytes) -> list[tuple[Any, ...]] | None:
        frame = current_frame()
        try:
            if frame is None:
                data = self.target.get(key)
                return None if data is None else codec.decode_rows(data)
            found = self.target.get_with_deps(key)
            if found is None:
                return None
            rows = codec.decode_rows(found.value)
            frame.absorb_hit(found.deps)
            return rows
        except codec.StaleFormat:
            return None

    def _as_result(self, rows: list[tuple[Any, ...]]) -> Any:
        if self.single:
            return rows[0] if rows else None
        return [rows] if rows else []

    def _execute_compiled(self, sql: str, params: Any) -> Any:
        # The statement was compiled for its key; compiling it again costs as much as a fast query.
        self.compiler.as_sql = lambda *args, **kwargs: (sql, params)
        try:
            return self.execute()
        finally:
            del self.compiler.as_sql

    def _fill(self, key: bytes, sql: str, params: Any) -> Any:
        stamp = self.state.fill_stamp(self.target.stamp())
        points.reach("fill:stamped")
        result = self._execute_compiled(sql, params)
        points.reach("fill:read")
        if stamp is None:
            return _uncached(lambda: result)
        # A driver may return rows lazily only to readers in chunks: these are all there.
        if self.single:
            rows = [] if result is None else [result]
        else:
            rows = [row for chunk in result for row in chunk]
        footprint = footprint_of(self.compiler, sql, params)
        if not footprint.cacheable:
            return _uncached(lambda: result)
        deps = dependencies(self.compiler, footprint, None if self.single else rows)
        frame = current_frame()
        if frame is not None:
            frame.tags |= deps
            frame.stamp = min(frame.stamp, stamp)
        self._store(key, rows, deps, stamp)
        return result

    def _store(self, key: bytes, rows: list[Any], deps: set[str], stamp: int) -> None:
        ttl = self.mark.ttl if self.mark.ttl is not None else store.settings().ttl
        try:
            outcome = self.target.fill(key, codec.encode_rows(rows), stamp, ttl=ttl, tags=deps)
        except UnstorableError as error:
            store.log_once(f"rows of {self.compiler.query.model} are not cached: {error}")
            return
        if outcome is Outcome.TOO_LARGE:
            store.log_too_large(f"a list of {self.compiler.query.model}", self.target)
