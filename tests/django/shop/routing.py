"""Sends every query that names no database to the one under test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction

active = "default"


class Router:
    def db_for_read(self, model, **hints):
        return active

    def db_for_write(self, model, **hints):
        return active

    def allow_relation(self, first, second, **hints):
        return True


@contextmanager
def routed_to(alias: str) -> Iterator[None]:
    global active
    before, active = active, alias
    try:
        yield
    finally:
        active = before


def atomic(**options: Any) -> Any:
    return transaction.atomic(using=active, **options)
