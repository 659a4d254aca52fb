"""Databases of PostgreSQL's for the site."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def _servers() -> Any:
    folder = str(Path(__file__).parents[1] / "django")
    if folder not in sys.path:
        sys.path.append(folder)
    from shop import servers

    return servers


def find() -> dict[str, str] | None:
    """HOST, PORT, USER and PASSWORD of a server; None if there is none."""
    found: dict[str, str] | None = _servers().find_postgres()
    return found


@contextmanager
def new(server: dict[str, str]) -> Iterator[dict[str, str]]:
    """The site's environment for a new, empty database."""
    name = f"zoocache_site_{os.getpid()}_{secrets.token_hex(3)}"
    with _servers().connect_postgres(server) as admin:
        admin.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        try:
            settings = {"ENGINE": "django.db.backends.postgresql", "NAME": name, **server}
            yield {"SITE_POSTGRES": json.dumps({**settings, "CONN_MAX_AGE": None})}
        finally:
            admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
