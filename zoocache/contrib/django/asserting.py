"""What zoocache.testing asserts of the ORM: which queries ran and why, and what a model is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db import connections
from django.db.models import Model, QuerySet

from zoocache.contrib.django import tags
from zoocache.contrib.django.lazy import mark_in
from zoocache.contrib.django.why import WatchedRead, told, watching
from zoocache.shm.explain import State

# They read nothing: assert_cached in a transaction is about what is read in it.
_OF_TRANSACTIONS = ("SAVEPOINT", "RELEASE", "ROLLBACK TO", "BEGIN")


@contextmanager
def watch() -> Iterator[Callable[[], tuple[list[str], list[str]]]]:
    """A function that gives the block's statements, and why its reads were no hits."""
    statements: list[str] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if not str(sql).startswith(_OF_TRANSACTIONS):
            statements.append(f"{context['connection'].alias}: {sql}")
        return execute(sql, params, many, context)

    with ExitStack() as stack:
        for connection in connections.all():
            stack.enter_context(connection.execute_wrapper(note))
        reads = stack.enter_context(watching())
        yield lambda: (statements, [told(read) for read in reads if not _is_hit(read)])


def _is_hit(read: WatchedRead) -> bool:
    return not read.refused and read.entry is not None and read.entry.state is State.FRESH


def is_queryset(thing: Any) -> bool:
    return isinstance(thing, QuerySet)


def label_of(thing: Any) -> str:
    """A model, an instance or a queryset in words."""
    if isinstance(thing, QuerySet):
        return f"a queryset of {thing.model._meta.label}"
    if isinstance(thing, Model):
        return f"{thing._meta.label}:{thing.pk}"
    if isinstance(thing, type) and issubclass(thing, Model):
        return str(thing._meta.label)
    raise TypeError(f"{thing!r} is neither a tag nor a model, an instance or a queryset")


def tags_of(thing: Any) -> set[str]:
    """What depends on a model, or on an instance, depends on these."""
    meta = thing._meta
    own = thing.pk if isinstance(thing, Model) else None
    if isinstance(thing, Model) and own is None:
        raise TypeError(f"{thing!r} is not saved: nothing can depend on it")
    table = meta.db_table
    parents = {tags.any_of(parent._meta.db_table) for parent in meta.get_parent_list()}
    return {tags.any_of(table) if own is None else tags.row(table, own), *parents}


def probe(queryset: Any) -> Callable[[], str]:
    """Reads a queryset, and gives a look whether it has to be read from the database again.

    AssertionError where it is not cached in the first place.
    """
    if mark_in(queryset) is None:
        raise AssertionError(
            f"{label_of(queryset)} is not cached, whatever is written: use Model.cached"
        )
    list(queryset.all())
    with watch() as watched:
        list(queryset.all())
    statements, reasons = watched()
    if statements:
        raise AssertionError("\n  ".join([f"{label_of(queryset)} is not cached", *reasons]))

    def look() -> str:
        with watch() as again:
            list(queryset.all())
        return "" if again()[0] else "it is served as before"

    return look
