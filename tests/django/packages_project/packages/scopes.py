from __future__ import annotations

from typing import Any


def schema_of(connection: Any) -> str:
    return getattr(connection, "schema_name", "")
