"""Shadow mode: some hits are compared with the database, and what differs is reported."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from zoocache import codec
from zoocache.exceptions import UnstorableError

logger = logging.getLogger("zoocache.shadow")

_MOST_SHOWN = 3


def same_rows(stored: Sequence[Any], read: Sequence[Any]) -> bool:
    """Are the rows equal, in value and type? In any order: ties may be sorted either way."""
    try:
        return _sorted(stored) == _sorted(read)
    except UnstorableError:
        return False


def _sorted(rows: Sequence[Any]) -> list[bytes]:
    return sorted(codec.encode_rows([row]) for row in rows)


def report(model: Any, sql: str, params: Any, stored: Sequence[Any], read: Sequence[Any]) -> None:
    """Logs a hit that was not what the database says."""
    logger.error(
        "a stale hit of %s: the cache gave %d rows and the database %d.\n"
        "SQL: %s\nparameters: %r\nonly in the cache: %s\nonly in the database: %s",
        model._meta.label, len(stored), len(read), sql, params,
        _without(stored, read), _without(read, stored),
        extra={"zoocache_name": model._meta.label, "zoocache_sql": sql},
    )  # fmt: skip


def _without(rows: Sequence[Any], others: Sequence[Any]) -> str:
    known = {codec.encode_rows([row]) for row in others}
    left = [row for row in rows if codec.encode_rows([row]) not in known]
    shown = ", ".join(map(repr, left[:_MOST_SHOWN]))
    return f"{shown} and {len(left) - _MOST_SHOWN} more" if len(left) > _MOST_SHOWN else shown
