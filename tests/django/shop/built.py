"""How many of Django's queries are built and compiled: counted, not guessed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from django.db.models.sql.compiler import SQLCompiler
from django.db.models.sql.query import Query


@contextmanager
def built() -> Iterator[list[str]]:
    """A list that gets a word for each Query that is made or cloned, and each compilation."""
    seen: list[str] = []

    def counting(owner: type, name: str) -> mock._patch[object]:
        original = getattr(owner, name)

        def counted(self, *args, **kwargs):
            seen.append(f"{owner.__name__}.{name}")
            return original(self, *args, **kwargs)

        return mock.patch.object(owner, name, counted)

    with (
        counting(Query, "__init__"),
        counting(Query, "clone"),
        counting(SQLCompiler, "__init__"),
        counting(SQLCompiler, "as_sql"),
    ):
        yield seen
