"""Everything in Django that zoocache hooks or patches, and why.

- `SQLCompiler.execute_sql`: serves marked SELECTs, and sees deletes.
- `SQLInsertCompiler.execute_sql`, `SQLUpdateCompiler.execute_sql` and, from
  Django 6, `SQLUpdateCompiler.execute_returning_sql`: they know which rows and
  columns an ORM write touches. Signals do not, and bulk operations send none.
- `Options.contribute_to_class`: two keys of a model's Meta (meta.py).
- `Model.objects` of models that ZOOCACHE["MODELS"] names (patterns.py).
- An execute wrapper on each connection: it sees every statement, the raw ones too.
- `connect` of each connection, and its `_cursor` where that is not Django's own: the statements of
  receivers, and of backends that set a tenant's search_path there, are none of the ORM's.
- `make_cursor` and `make_debug_cursor` of each connection, and `pipeline` of psycopg's: see
  cursors.py.
- `close` of each connection: what is still owed is published, and nobody holds on to it.
- `_commit`, `_rollback` and `_set_autocommit` of each connection: there is no
  public hook right at COMMIT. `on_commit` comes later, and another hook that
  raises prevents it.

Compilers of other backends that override these methods without super() are
still seen by the wrapper, table by table.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.models.sql.compiler import SQLCompiler, SQLInsertCompiler, SQLUpdateCompiler
from django.db.models.sql.constants import MULTI

from zoocache import config, local, store
from zoocache.cacheable import current_frame
from zoocache.contrib.django import meta, options, patterns, requests, tags, writing
from zoocache.contrib.django.connection import ConnectionState, open_states, state_of
from zoocache.contrib.django.cursors import watch, watch_pipelines
from zoocache.contrib.django.reading import mark_of, observe, read
from zoocache.contrib.django.transactions import soiled_states

_PATCHED = "_zoocache_patched"
_COMPILERS = (
    (SQLCompiler, "execute_sql"),
    (SQLInsertCompiler, "execute_sql"),
    (SQLUpdateCompiler, "execute_sql"),
    (SQLUpdateCompiler, "execute_returning_sql"),  # from Django 6 on
)
_HOOK = "_zoocache_hook"  # functools.wraps hands it on
_CAREFUL = "ZOOCACHE"  # among the busy: of which each read must ask the settings
# Class and instances both have it: to ask an instance's __dict__ makes CPython build one, and
# every attribute of the compiler slower.
_WRITING = "_zoocache_writing"


def install() -> None:
    """Patches the compilers, once, and hooks every connection, now and later."""
    if getattr(SQLCompiler, _PATCHED, False):
        return
    setattr(SQLCompiler, _PATCHED, True)
    setattr(SQLCompiler, _WRITING, False)
    for compiler, name in _COMPILERS:
        if name in compiler.__dict__:
            seeing = _seeing_select if compiler is SQLCompiler else _seeing_write
            hook = seeing(compiler.__dict__[name])
            setattr(hook, _HOOK, True)
            setattr(compiler, name, hook)
    connection_created.connect(_connected, dispatch_uid="zoocache.connected")
    # In front of the user's receivers: what they set up is not part of the connection's identity.
    connection_created.receivers.insert(0, connection_created.receivers.pop())
    if settings.configured:  # nothing is connected before
        for connection in connections.all(initialized_only=True):
            hook_connection(connection)
    config.register_source(
        options.given,
        label=options.LABEL,
        extra_keys=options.KEYS,
    )
    setting_changed.connect(_settings_changed, dispatch_uid="zoocache.settings")
    meta.install()
    patterns.install()
    requests.install()
    store.register_framework(DjangoFramework())


def replaced() -> list[str]:
    """What is hooked above, and was put out of force since. What wraps a hook keeps it in force."""
    found = [
        f"{compiler.__name__}.{name}"
        for compiler, name in _COMPILERS
        if name in compiler.__dict__ and not hasattr(compiler.__dict__[name], _HOOK)
    ]
    for connection in connections.all(initialized_only=True):
        state = connection.__dict__.get("_zoocache_state")
        if state is not None and state.wrapper not in connection.execute_wrappers:
            found.append(f"the execute wrapper of connections[{connection.alias!r}]")
    return found


def _seeing_select(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def execute_sql(
        self: Any,
        result_type: str = MULTI,
        chunked_fetch: bool = False,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        if self._zoocache_writing:
            # Inside an update the frame is open already: this is its super() call.
            if args or kwargs:  # to hand on what is not there would cost, too
                return original(self, result_type, chunked_fetch, *args, **kwargs)
            return original(self, result_type, chunked_fetch)

        run = partial(original, self, result_type, chunked_fetch, *args, **kwargs)
        if isinstance(self, writing.WRITE_COMPILERS):
            return hook_connection(self.connection).write(self, run)
        execute = partial(_select, self, run, chunked_fetch)
        mark = mark_of(self.query)
        if mark is not None:
            return read(self, execute, mark, result_type, chunked_fetch)
        frame = current_frame()
        if frame is not None and frame.observes:
            return observe(self, execute, frame)
        return execute()

    return execute_sql


def _seeing_write(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def execute_sql(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self._zoocache_writing:
            return original(self, *args, **kwargs)
        run = partial(original, self, *args, **kwargs)
        return hook_connection(self.connection).write(self, run)

    return execute_sql


def _select(compiler: Any, run: Callable[[], Any], chunked: bool) -> Any:
    return hook_connection(compiler.connection).statement(run, chunked=chunked)


def hook_connection(connection: Any) -> ConnectionState:
    """Hooks one DatabaseWrapper, once; reconnecting keeps what hangs on it."""
    try:
        return connection._zoocache_hooked  # type: ignore[no-any-return]
    except AttributeError:
        pass
    state = connection._zoocache_hooked = state_of(connection)
    connection.execute_wrappers.insert(0, state.wrapper)  # outermost
    commit, rollback = connection._commit, connection._rollback
    set_autocommit, close = connection._set_autocommit, connection.close

    def _close() -> None:
        state.session.closing()
        try:
            close()
        finally:
            state.closed()

    def _set_autocommit(autocommit: bool) -> Any:
        # Switching autocommit on commits open work on some backends.
        if not autocommit:
            state.manual = True
            state.stir()
            return set_autocommit(autocommit)
        result = state.commit(lambda: set_autocommit(autocommit))
        state.manual = False
        state.calm()
        return result

    connection.make_cursor = watch(connection.make_cursor, state)
    connection.make_debug_cursor = watch(connection.make_debug_cursor, state)
    connection._commit = lambda: state.commit(commit)
    connection._rollback = lambda: state.rollback(rollback)
    connection._set_autocommit = _set_autocommit
    connection.close = _close
    connection.connect = partial(state.in_the_open, connection.connect)
    if type(connection)._cursor is not vars(BaseDatabaseWrapper)["_cursor"]:
        connection._cursor = partial(state.in_the_open, connection._cursor)
    state.manual = not connection.autocommit  # it may be in use already
    state.calm()
    return state


def _connected(connection: Any, **kwargs: Any) -> None:
    state = hook_connection(connection)
    watch_pipelines(connection.connection, state)
    state.connected()


def _settings_changed(*, setting: str, **kwargs: Any) -> None:
    if setting == "ZOOCACHE":
        config.changed()
        patterns.refresh()
        for state in open_states():
            state.calm()


class DjangoFramework:
    """What Django adds to `invalidate` and to `@cacheable`."""

    def expand(self, tag: str) -> Iterable[str]:
        return tags.expand(tag)

    def depend(self, tag: str) -> Iterable[str]:
        return tags.depend(tag)

    def observe(self, invalidated: Iterable[str] | None) -> None:
        """Repeats it after COMMIT: another process may store the old row again before that."""
        for state in open_states():
            if state.in_transaction():
                state.written.add_by_hand(invalidated)

    def guard(self) -> store.Guard:
        stamps, clean, namespace = [], True, b""
        usual = options.options().scope is None
        for state in open_states():
            state.settle()
            state.calm()
            namespace += state.session.namespace()
            clean = clean and not (state.written.dirty or state.pinned or state.bypassed())
            clean = clean and not (state.begun and state.stamp is None)
            if state.stamp is not None:
                stamps.append(state.stamp)
        for writer in soiled_states():
            writer.settle()
            clean = clean and not writer.written.dirty
        usual = usual and clean and not stamps and not namespace
        return store.Guard(min(stamps, default=None), clean, namespace, requests.began(), usual)

    def allows_local(self) -> bool:
        given = options.options()
        free = given.usable and not given.shadow
        # Rows that depend on the connection's scope are nobody else's.
        (local.busy.discard if free and given.scope is None else local.busy.add)(_CAREFUL)
        return free
