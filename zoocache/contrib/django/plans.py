"""What a shape of queryset comes to on one database, and how its results are found without SQL.

The first evaluation of a shape in a process is Django's, and is watched: from
its one SELECT a *plan* is learnt, the SQL's text and the function that makes the
result from rows (filling.py). From then on the entry of a recipe is named by the
plan's SQL and the recipe's values: no query is built on a hit, in this process
or in another that has learnt the same SQL.

A miss is Django's evaluation again. It is stored under the recipe's name only if
its SQL is the plan's: where that depends on values after all, the entry goes by
its SQL (reading.py), as those of all other querysets do.
"""

from __future__ import annotations

import threading
from asyncio import _get_running_loop
from collections.abc import Callable
from datetime import timedelta
from datetime import timezone as tzinfo
from functools import partial
from hashlib import blake2b
from typing import Any, Final

from django.db import DEFAULT_DB_ALIAS, connections, router
from django.db.models import QuerySet
from django.db.models.signals import post_init, pre_init
from django.utils import timezone

from zoocache import codec, local, notices, sites, store
from zoocache.cacheable import computing, look_up, look_up_copy
from zoocache.contrib.django import graphs
from zoocache.contrib.django.connection import ConnectionState, state_of
from zoocache.contrib.django.filling import Filler, filler_of, filler_of_aggregates, same
from zoocache.contrib.django.options import options
from zoocache.contrib.django.reading import Named, as_django_does, naming
from zoocache.contrib.django.recipes import Recipe, key_of
from zoocache.contrib.django.transactions import connection_listeners
from zoocache.contrib.django.why import is_watched
from zoocache.shm import _core

Rows = tuple[tuple[Any, ...], ...]


class _Here(threading.local):
    """The states of this thread's connections, which Django takes microseconds to find.

    By alias. Two threads' connections of one alias may lead to different databases.
    """

    def __init__(self) -> None:
        self.states: dict[str, ConnectionState] = {}


_here = _Here()
connection_listeners.append(lambda alias: _here.states.pop(alias, None))


class Question:
    """What is asked of a queryset."""

    def __init__(
        self,
        name: str,
        ask: Callable[[Any], Any],
        answer: Callable[[Rows, str], Any] | None,
    ) -> None:
        self.name = name
        self.ask = ask
        """Asks Django."""
        self.answer = answer
        """What the rows of its SELECT come to; None: instances, or the like, which the plan
        makes."""
        signals = pre_init, post_init
        self.near: Any = _core.Near(
            name, signals, _get_running_loop, _here, router, DEFAULT_DB_ALIAS
        )
        """Finds what this process has rows for, in one call."""


class Plan:
    """What a question to the querysets of a shape comes to, on one alias."""

    def __init__(
        self, recipe: Recipe, named: Named, question: Question, ttl: float | None, filler: Any
    ) -> None:
        self.sql = named.sql
        self.site = sites.of_query(named.model._meta.label, sites.place())
        self.tables = tuple(named.footprint(named.sql, named.params).tables)
        self.filler: Filler | None = filler
        self.verified = filler is None
        """Is what the filler makes known to be what Django makes?"""
        self.answer: Callable[[Rows, str], Any] = question.answer or partial(_instances, self)
        """What rows come to, on the alias; None if Django must say."""
        self.near: tuple[bytes, Any] = b"", None
        """Copies by values alone: the digest of the session that they are of, and their memo."""
        shape, values = recipe
        shown = (question.name, named.model._meta.label, named.sql, named.width, ttl)
        self.own_token = _digest(shown, shape.told())
        """Names this shape's results; those of another shape differ, though it has the same SQL."""
        # The SQL does not tell what is made of the values: LIKE 'a%', LIKE '%a'. Where they are
        # its parameters as they are, all shapes of that SQL share their entries.
        # Two that are equal do not tell which is which.
        told_apart = len({(type(value), value) for value in values}) == len(values)
        self.is_plain = told_apart and _are_parameters(values, named)
        self.token = _digest(shown) if self.is_plain else self.own_token

    def names(self, named: Named, values: tuple[Any, ...]) -> bool:
        """Does the name that it gives to the values' entry stand for this SELECT?"""
        return named.sql == self.sql and (not self.is_plain or _are_parameters(values, named))

    def verify(self) -> None:
        """What the filler makes is known to be what Django makes."""
        assert self.filler is not None
        self.verified = True
        if not self.filler.own:
            self.answer = self.filler.build

    def memo_of(self, digest: bytes) -> Any:
        """Where copies are kept by their values, of sessions with this digest."""
        known, memo = self.near
        if known != digest:
            memo = local.memo(_nothing)
            self.near = digest, memo
        return memo

    def usable(self) -> bool:
        """Does nobody want to be told of the instances that it makes?"""
        return self.filler is None or self.filler.usable()

    def decode(self, state: ConnectionState, data: bytes) -> Rows:
        """Reads rows from the segment into what is shared in this process."""
        rows = codec.decode_rows(data)
        return tuple(rows) if self.filler is None else self.filler.shared(rows, state)


def _nothing(*values: Any) -> None:
    """What a memo of rows computes."""


def _digest(*told: Any) -> bytes:
    return blake2b(codec.encode_name(told), digest_size=16).digest()


def _are_parameters(values: tuple[Any, ...], named: Named) -> bool:
    given = tuple(named.params)
    return (
        given == values
        and all(type(one) is type(other) for one, other in zip(given, values, strict=True))
        and all(type(value) in (int, str, bool) for value in values)
        and " LIKE " not in named.sql.upper()  # of which only some values are escaped
    )


def _instances(plan: Plan, rows: Rows, alias: str) -> list[Any] | None:
    filler = plan.filler
    assert filler is not None
    if rows and not plan.verified:
        return None
    if filler.own:
        return filler.result(rows, connections[alias], alias)
    return filler.build(rows, alias)


def _number(rows: Rows, alias: str) -> int:
    return rows[0][0]  # type: ignore[no-any-return]


def _is_any(rows: Rows, alias: str) -> bool:
    return bool(rows)


def _aggregates(queryset: Any) -> list[dict[str, Any]]:
    args, kwargs = queryset._aggregates
    return [QuerySet.aggregate(queryset, *args, **kwargs)]


ROWS: Final = Question("rows", lambda queryset: list(queryset._iterable_class(queryset)), None)
COUNT: Final = Question("count", QuerySet.count, _number)
EXISTS: Final = Question("exists", QuerySet.exists, _is_any)
AGGREGATES: Final = Question("aggregates", _aggregates, None)
"""Of a queryset that has been `_aggregated` (steps.py); the answer is a list of one dict."""

_FILLED: Final = {ROWS: filler_of, AGGREGATES: filler_of_aggregates}

# Where a plan would stand if Django alone can answer.
_UNPLANNED: Final = None

# Where nobody lives.
_ELSEWHERE: Final = tzinfo(timedelta(hours=13, minutes=37))


def find(question: Question, recipe: Recipe, alias: str) -> Any:
    """The answer, from the cache; None if it is not there, or only Django can tell.

    Whoever calls this has asked `question.near`.
    """
    shape, values = recipe
    plan: Plan | None = shape.plans_of(question.name).get(alias)
    if plan is None or ((pre_init.receivers or post_init.receivers) and not plan.usable()):
        return None
    if _get_running_loop() is not None:
        as_django_does()
        return _find_when_busy(plan, values, alias)  # a task may have connections of its own
    if local.busy:
        return _find_when_busy(plan, values, alias)
    state = _here.states.get(alias)
    if state is None:
        state = _here.states[alias] = state_of(connections[alias])
    digest = state.session.digest()
    known, memo = plan.near  # which `near` cannot ask for a state that is new, or with receivers
    if known == digest:
        rows = memo.get(values)
        if rows is not None:
            return plan.answer(rows, alias)
    key = plan.token + digest + key_of(values)
    copies = local.copies
    if copies is not None:
        rows = copies.get(key)
        if rows is not None:
            return plan.answer(rows, alias)
    return _find_shared(plan, key, alias, state, None, digest, values)


def whole(queryset: Any, alias: str, fetch: Callable[[], None]) -> list[Any] | None:
    """What a queryset returns with all that it prefetches, kept in this process as a whole.

    Where it is not, `fetch` is called, which puts it into the queryset; what it
    got there is kept if every SELECT was a hit.
    """
    recipe, target = queryset._recipe, store.cache()
    key = _whole_key(recipe, alias)
    copies = None if target is None else local.copies_of(target)
    if target is None or copies is None or key is None:
        fetch()
        return None
    graph = copies.get(key)
    if graph is not None:
        return graphs.thaw(graph)
    with computing(target.stamp()) as frame:
        fetch()
    if frame.tags or not frame.storable:
        return None
    lookups = queryset._prefetch_related_lookups
    try:
        graph = graphs.freeze(queryset._result_cache, lookups, alias)
        good = graphs.is_steady(queryset.model, lookups)
        good = good and graphs.same(graph, graphs.freeze(graphs.thaw(graph), lookups, alias))
    except graphs.Unlike:
        good = False
    if good:
        deps = b"".join(frame.deps)
        site = recipe[0].plans_of(ROWS.name)[alias].site.number_in(target)
        copies.put(key, graph, key, deps, frame.stamp, 0, graphs.size_of(graph), site)
    else:
        recipe[0].has_graph = False
    return None


def _whole_key(recipe: Recipe, alias: str) -> bytes | None:
    shape, values = recipe
    plan: Plan | None = shape.plans_of(ROWS.name).get(alias)
    state = _here.states.get(alias)
    listens = pre_init.receivers or post_init.receivers
    if plan is None or state is None or local.busy or listens or not shape.has_graph:
        return None
    if _get_running_loop() is not None:  # a task may have connections of its own
        return None
    # Of what has a ttl, each part has one of its own.
    if shape.mark.ttl is not None or store.settings().ttl is not None:
        return None
    return b"g" + plan.own_token + state.session.digest() + key_of(values)


def _find_when_busy(plan: Plan, values: tuple[Any, ...], alias: str) -> Any:
    """The same where something unusual is going on, perhaps in another thread."""
    began = notices.clock()
    answer, key = _find_carefully(plan, values, alias)
    if answer is not None and notices.reads:
        notices.hit(plan.site.label, _entry_of(key), began)
    return answer


def _find_carefully(plan: Plan, values: tuple[Any, ...], alias: str) -> tuple[Any, bytes]:
    state = state_of(connections[alias])
    state.settle()
    state.calm()
    dirty = state.written.dirty and state.reads_own_writes(plan.tables)
    if dirty or state.bypassed() or is_watched():
        return None, b""
    session, newest = state.session, state.newest()
    digest, namespace = session.digest(), session.namespace()
    rows = None
    known, memo = plan.near
    if known == digest and not namespace:
        rows = look_up_copy(memo, values, newest=newest)
    key, copies = plan.token + _within(digest, namespace) + key_of(values), local.copies
    if rows is None and copies is not None:
        rows = look_up_copy(copies, key, newest=newest)
    if rows is not None:
        return plan.answer(rows, alias), key
    at = b"" if namespace else digest
    return _find_shared(plan, key, alias, state, newest, at, values), key


def _find_shared(
    plan: Plan, key: bytes, alias: str, state: ConnectionState, newest: int | None,
    digest: bytes, values: tuple[Any, ...],
) -> Any:  # fmt: skip
    """The same from the segment. With a digest, a copy for the values is that session's."""
    target = store.cache()
    if target is None or options().shadow:  # which wants to see the SQL
        return None
    found = look_up(target, _entry_of(key), partial(plan.decode, state), newest=newest)
    if found is None:
        return None
    plan.site.hits += 1
    if found.copy is not None:
        memo = plan.memo_of(digest) if digest else None
        found.copy.keep_rows(key, found.value, plan.site.number_in(target), memo, *values)
    return plan.answer(found.value, alias)


def _key(plan: Plan, state: ConnectionState, values: tuple[Any, ...]) -> bytes:
    session = state.session
    return plan.token + _within(session.digest(), session.namespace()) + key_of(values)


def _within(digest: bytes, namespace: bytes) -> bytes:
    return blake2b(digest + namespace, digest_size=16).digest() if namespace else digest


def _entry_of(key: bytes) -> bytes:
    return b"r" + blake2b(key, digest_size=20).digest()


def ask(question: Question, queryset: Any, alias: str) -> Any:
    """Django's answer, which is cached under the recipe's name if it has a plan, or gets one."""
    recipe: Recipe = queryset._recipe
    shape, values = recipe
    plans = shape.plans_of(question.name)
    built = queryset._built(recipe)

    def decide(named: Named) -> bytes | None:
        if alias not in plans:
            plans[alias] = _plan(recipe, question, named, built)
        plan = plans[alias]
        if plan is _UNPLANNED or not plan.names(named, values):
            return None
        named.site = plan.site
        return _entry_of(_key(plan, state_of(named.connection), values))

    with naming(decide) as seen:
        answer = question.ask(built)
    plan = plans.get(alias)
    if plan is not None and len(seen) > 1:  # it asks more than once
        plans[alias] = _UNPLANNED
    elif plan is not None and not plan.verified and seen and seen[0].rows:
        if _is_good(plan, seen[0], answer):
            plan.verify()  # not before: another thread may be looking
        else:
            plans[alias] = _UNPLANNED
    return answer


def _plan(recipe: Recipe, question: Question, named: Named, built: Any) -> Plan | None:
    make = _FILLED.get(question)
    filler = None if make is None else make(named.compiler, built)
    cacheable = named.footprint(named.sql, named.params).cacheable
    if not cacheable or (make is not None and filler is None) or _is_zoned(named):
        return _UNPLANNED
    return Plan(recipe, named, question, built.query.zoocache.ttl, filler)


def _is_zoned(named: Named) -> bool:
    """Is it another SELECT in another time zone? A recipe does not say in which one it is asked.

    The day of a datetime may be ordered by, say, also where only the model's Meta tells.
    """
    compiler = named.compiler
    query, like = compiler.query.clone(), (compiler.using, compiler.connection)
    again = query.get_compiler(*like, elide_empty=compiler.elide_empty)
    with timezone.override(_ELSEWHERE):
        sql, params = again.as_sql()
    return bool(sql != named.sql or tuple(params) != tuple(named.params))


def _is_good(plan: Plan, named: Named, answer: list[Any]) -> bool:
    """Does the plan make of rows what Django made of them?"""
    filler, connection = plan.filler, named.connection
    assert filler is not None
    try:
        rows = filler.shared([*map(tuple, named.rows)], state_of(connection))
        return same(filler.result(rows, connection, connection.alias), answer)
    except Exception:
        return False
