"""Cached SELECTs, at the level of the compiler.

`SQLCompiler.execute_sql` returns rows as the driver gave them; what is built of
them (instances, dicts, tuples, numbers) is Django's own work afterwards, on a
hit as on a miss. So the key needs only the database, the SQL and its
parameters, and a hit cannot differ from a miss in type, annotation or relation.

A query is cached if it carries a mark, which `zoocache()` puts on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import blake2b
from random import random
from typing import Any, NamedTuple

from django.core.exceptions import EmptyResultSet
from django.db.models.sql.constants import MULTI, SINGLE
from django.utils.asyncio import async_unsafe

from zoocache import codec, local, notices, points, sites, store
from zoocache.cacheable import (
    Frame,
    current_frame,
    look_up,
    look_up_copy,
    store_entry,
)
from zoocache.contrib.django import shadow
from zoocache.contrib.django.connection import ConnectionState, state_of
from zoocache.contrib.django.dependencies import dependencies
from zoocache.contrib.django.footprint import Footprint, footprint_of, plain, twin_of
from zoocache.contrib.django.instances import own_deps
from zoocache.contrib.django.options import options
from zoocache.contrib.django.why import is_watched, note_read, note_refusal, timing
from zoocache.exceptions import UnstorableError
from zoocache.shm import Cache, Landing
from zoocache.shm.explain import explain
from zoocache.turns import Found, Wanted

PATIENCE = 10.0
"""Seconds for which a query waits for another process that runs it."""


class Mark(NamedTuple):
    """On `Query.zoocache`: the query may be served from the cache. None there: it may not."""

    ttl: float | None
    """Seconds; None: the default of the settings."""


UNMARKED = Mark(None)
_EVERY = Mark(None)  # of all queries, where ZOOCACHE has EVERYTHING


# The mark of the queryset that is being prefetched for: what it fetches on the
# way is part of it, though Django builds those queries from plain managers.
prefetching: ContextVar[Mark | None] = ContextVar("zoocache_prefetching", default=None)


def mark_of(query: Any) -> Mark | None:
    """The mark of a query, or of the query that an aggregate is computed over."""
    query = getattr(query, "inner_query", None) or query
    mark: Mark | None = getattr(query, "zoocache", UNMARKED)
    if mark is not UNMARKED:
        return mark
    mark = prefetching.get()
    return _EVERY if mark is None and options().everything else mark


def read(
    compiler: Any, execute: Callable[[], Any], mark: Mark, result_type: str, chunked: bool
) -> Any:
    """What `execute` would return, from the cache if it is there and may be used."""
    if is_watched():
        with timing(compiler):
            return _read(compiler, execute, mark, result_type, chunked)
    return _read(compiler, execute, mark, result_type, chunked)


def _read(
    compiler: Any, execute: Callable[[], Any], mark: Mark, result_type: str, chunked: bool
) -> Any:
    target = store.cache()
    query = compiler.query
    if target is None:
        return _uncached(compiler, execute, "the cache is off")
    if chunked or result_type not in (MULTI, SINGLE):
        return _uncached(compiler, execute, "it is read in chunks")
    if query.select_for_update or query.explain_info:
        return _uncached(compiler, execute, "it locks rows, or explains")
    return _Read(compiler, execute, mark, result_type, target).result()


def observe(compiler: Any, execute: Callable[[], Any], frame: Frame) -> Any:
    """Runs a SELECT that is not cached; the computation that it is part of depends on it."""
    result = execute()
    # Read in chunks, it is not here yet.
    rows = [row for chunk in result for row in chunk] if isinstance(result, list) else None
    tags = tags_of(compiler, rows)
    if tags is None:
        frame.storable = False
    else:
        frame.tags |= tags
    return result


def tags_of(compiler: Any, rows: list[Any] | None = None) -> set[str] | None:
    """What a SELECT depends on, more finely if its rows are known; None if that is not known."""
    twin = twin_of(compiler)
    try:
        sql, params = twin.as_sql()
        footprint = footprint_of(twin, sql, params)
        return dependencies(twin, footprint, rows) if footprint.cacheable else None
    except EmptyResultSet:
        return set()  # whatever the tables hold
    except Exception:
        return None


def _uncached(compiler: Any, execute: Callable[[], Any], reason: str) -> Any:
    """Reads from the database what is not looked for in the cache."""
    _taint()
    return _bypassing(compiler, execute, reason)


def _bypassing(compiler: Any, execute: Callable[[], Any], reason: str) -> Any:
    site, began = _site_of(compiler), notices.clock()
    site.bypassed(store.cache())
    note_refusal(compiler, reason)
    try:
        return execute()
    finally:
        notices.bypass(site.label, reason, began)


def _taint() -> None:
    """A computation that uses what is read would not know what it depends on."""
    frame = current_frame()
    if frame is not None:
        frame.storable = False


def _site_of(compiler: Any) -> sites.Site:
    return sites.of_query(compiler.query.model._meta.label if compiler.query.model else "")


class Named:
    """A SELECT that may be cached, and what names it."""

    def __init__(self, read: _Read, sql: str, params: Any, width: int | None) -> None:
        self.compiler = read.compiler
        self.connection = read.compiler.connection
        self.footprint = read.footprint
        self.sql = sql
        self.params = params
        self.width = width
        self.site: sites.Site | None = None
        """By its place; None: by its model."""
        self.rows: Any = None
        """Those that it gave, as the driver does; None: not known."""

    @property
    def model(self) -> Any:
        return self.compiler.query.model


Decide = Callable[[Named], bytes | None]

_naming: ContextVar[tuple[Decide, list[Named]] | None] = ContextVar("zoocache_naming", default=None)


@contextmanager
def naming(decide: Decide) -> Iterator[list[Named]]:
    """A list that gets the cached SELECTs which run inside. `decide` gives the key of the first's
    entry, or None where it goes by its SQL."""
    seen: list[Named] = []
    token = _naming.set((decide, seen))
    try:
        yield seen
    finally:
        _naming.reset(token)


@async_unsafe
def as_django_does() -> None:
    """Raises SynchronousOnlyOperation where a query would, so that a hit behaves like a miss."""


class _Read:
    """One SELECT that may come from the cache."""

    def __init__(
        self, compiler: Any, execute: Callable[[], Any], mark: Mark, result_type: str, target: Cache
    ) -> None:
        self.compiler = compiler
        self.execute = execute
        self.mark = mark
        self.began = notices.clock()
        self.single = result_type == SINGLE
        self.target = target
        self.state: ConnectionState = state_of(compiler.connection)
        self.named: Named | None = None
        self.refusal = ""
        self._footprint: Footprint | None = None

    def footprint(self, sql: str, params: Any) -> Footprint:
        if self._footprint is None:
            self._footprint = footprint_of(self.compiler, sql, params)
        return self._footprint

    def result(self) -> Any:
        try:
            sql, params = self.compiler.as_sql()
        except EmptyResultSet:
            return self.execute()  # Django's answer needs no query
        key = self._key(sql, params)
        if key is None:
            return self._uncached("a parameter cannot be stored, and so cannot name an entry")
        if reason := self.state.bypassed():
            return self._uncached(reason)
        as_django_does()
        if is_watched():
            note_read(self.compiler, sql, params, explain(self.target, key), tags_of(self.compiler))
        if self.state.written.dirty and self.state.reads_own_writes(
            footprint_of(self.compiler, sql, params).tables
        ):
            return _bypassing(
                self.compiler,
                lambda: self._execute_compiled(sql, params),
                "the transaction has written to a table of it",
            )
        found = self._find(key)
        if found is not None:
            notices.hit(self.site.label, key, self.began)
            share = options().shadow
            if share and random() < share:
                return self._compare(key, sql, params, found)
            return self._as_result(found.value)
        # Who waits holds no locks in the database: the one that is waited for may need them.
        if self.state.in_transaction() or self.state.pinned:
            return self._fill(key, sql, params).value
        return self._take_turn(key, sql, params)

    def _uncached(self, reason: str) -> Any:
        return _uncached(self.compiler, self.execute, reason)

    def _refused(self, reason: str, result: Any) -> _Filled:
        """It was read to be stored, and must not be."""
        self.refusal = reason
        _taint()
        note_refusal(self.compiler, reason)
        return _Filled(result)

    @property
    def site(self) -> sites.Site:
        named = self.named
        return _site_of(self.compiler) if named is None or named.site is None else named.site

    def _key(self, sql: str, params: Any) -> bytes | None:
        # Django cuts off columns that DISTINCT made it add: the SQL does not tell which.
        extra = getattr(self.compiler, "has_extra_select", False)  # not on aggregates
        width = self.compiler.col_count if extra else None
        given = _naming.get()
        if given is not None:
            decide, seen = given
            self.named = Named(self, sql, params, width)
            seen.append(self.named)
            if len(seen) == 1 and (key := decide(self.named)) is not None:
                return key
        try:
            named = codec.encode_name((sql, plain(params), self.single, width, self.mark.ttl))
        except UnstorableError:
            return None
        return b"q" + blake2b(self.state.identity() + named, digest_size=20).digest()

    def _find(self, key: bytes) -> Found | None:
        """Its rows; the tuple of them is everybody's."""
        newest, copies = self.state.newest(), local.copies_of(self.target)
        if copies is not None:
            kept = look_up_copy(copies, key, newest=newest)
            if kept is not None:
                return Found(kept)
        found = look_up(self.target, key, _decode, newest=newest)
        if found is not None:
            self.site.hits += 1
            if found.copy is not None:
                found.copy.keep_rows(key, found.value, self.site.number_in(self.target))
        return found

    def _compare(self, key: bytes, sql: str, params: Any, found: Found) -> Any:
        """Runs the SQL of a hit, too, and reports rows that differ. Returns the database's."""
        points.reach("shadow:found")
        result = self._execute_compiled(sql, params)
        rows = self._rows_of(result)
        again = None
        if not shadow.same_rows(found.value, rows):
            # A write in between is no error: then the entry is not served any more.
            again = self._find(key)
        differed = again is not None and again.value == found.value
        self.target.note_compared(differed=differed)
        if differed:
            shadow.report(self.compiler.query.model, sql, params, found.value, rows)
        return result

    def _rows_of(self, result: Any) -> list[Any]:
        # A driver may return rows lazily only to readers in chunks: these are all there.
        if self.single:
            return [] if result is None else [result]
        return [row for chunk in result for row in chunk]

    def _take_turn(self, key: bytes, sql: str, params: Any) -> Any:
        """Computes, or waits for another process that does."""
        frame = current_frame()
        may_wait = not (self.state.leading or (frame is not None and frame.leads))
        wanted = Wanted(self.target, key, lambda: self._find(key), PATIENCE, may_wait)
        turn = wanted.turn()
        if turn.found is not None:
            notices.hit(self.site.label, key, self.began)
            return self._as_result(turn.found.value)
        landing = Landing.FAILED
        self.state.leading += 1
        try:
            filled = self._fill(key, sql, params)
            landing = filled.landing
        finally:
            self.state.leading -= 1
            if turn.flight is not None:
                turn.flight.end(landing)
        self.state.look_for_ended(self.target)
        return filled.value

    def _as_result(self, rows: tuple[tuple[Any, ...], ...]) -> Any:
        if self.named is not None:
            self.named.rows = rows
        if self.single:
            return rows[0] if rows else None
        return [list(rows)] if rows else []

    def _execute_compiled(self, sql: str, params: Any) -> Any:
        # The statement was compiled for its key; compiling it again costs as much as a fast query.
        self.compiler.as_sql = lambda *args, **kwargs: (sql, params)
        try:
            return self.execute()
        finally:
            del self.compiler.as_sql

    def _fill(self, key: bytes, sql: str, params: Any) -> _Filled:
        with self.site.filling(self.target) as fill:
            filled = self._fill_noted(key, sql, params, fill)
        notices.miss(self.site.label, key, fill, self.refusal)
        return filled

    def _fill_noted(self, key: bytes, sql: str, params: Any, fill: sites.Fill) -> _Filled:
        stamp = self.state.fill_stamp(self.target)
        points.reach("fill:stamped")
        result = self._execute_compiled(sql, params)
        fill.landed(False, 0)  # as long as nothing else is known
        points.reach("fill:read")
        if stamp is None:
            reason = "an unfinished SELECT, or a transaction of unknown age, pins what is read"
            return self._refused(reason, result)
        if reason := self.state.bypassed():  # of the session that it may have opened, or got
            return self._refused(reason, result)
        rows = self._rows_of(result)
        if self.named is not None:
            self.named.rows = rows
        footprint = self.footprint(sql, params)
        if not footprint.cacheable:
            return self._refused(footprint.refused, result)
        try:
            deps = dependencies(self.compiler, footprint, None if self.single else rows)
        except Exception as error:  # values of somebody's own field, which cannot be hashed
            label = self.compiler.query.model._meta.label
            store.log_once(
                f"rows of {label} are not cached: what they depend on is unknown: {error!r}",
                about=("dependencies", label),
            )
            return self._refused("what it depends on is unknown", result)
        try:
            deps |= own_deps(self.compiler, rows)
        except Exception as error:
            label = self.compiler.query.model._meta.label
            store.log_once(
                f"rows of {label} are not cached: zoocache_deps raised {error!r}",
                about=("zoocache_deps", label),
            )
            return self._refused("zoocache_deps raised", result)
        frame = current_frame()
        if frame is not None:
            frame.tags |= deps
            frame.stamp = min(frame.stamp, stamp)
        return _Filled(result, self._store(key, rows, deps, stamp, fill))

    def _store(
        self, key: bytes, rows: list[Any], deps: set[str], stamp: int, fill: sites.Fill
    ) -> Landing:
        model = self.compiler.query.model
        try:
            return store_entry(
                self.target, key, codec.encode_rows(rows), stamp,
                what=f"a list of {model}", ttl=self.mark.ttl, tags=deps, fill=fill,
            )  # fmt: skip
        except UnstorableError as error:
            store.log_once(f"rows of {model} are not cached: {error}")
            return Landing.UNSTORED


def _decode(data: bytes) -> tuple[tuple[Any, ...], ...]:
    return tuple(codec.decode_rows(data))


class _Filled(NamedTuple):
    """What a query gave, and what its waiters are told."""

    value: Any
    landing: Landing = Landing.UNSTORED
