"""What has to be asked of each kind of database and driver."""

from __future__ import annotations

import os
import uuid
from typing import Any

from zoocache import codec
from zoocache.exceptions import UnstorableError


def identity_of(connection: Any) -> bytes:
    """Bytes that name the database and the way this connection sees it, for keys."""
    settings = connection.settings_dict
    naive = connection.timezone is None  # with USE_TZ off
    named: list[Any] = [connection.vendor, connection.timezone_name, naive]
    if connection.vendor == "sqlite":
        try:
            path = os.path.abspath(os.fspath(settings["NAME"]))
            status = os.stat(path)
        except (OSError, TypeError):
            return uuid.uuid4().bytes  # in memory: nobody else's
        named += [path, status.st_dev, status.st_ino]
    else:
        named += [str(settings.get(key) or "") for key in ("HOST", "PORT", "NAME", "USER")]
        # libpq takes from the environment what the settings do not say.
        named.append(sorted(item for item in os.environ.items() if item[0].startswith("PG")))
    named.append(settings.get("OPTIONS") or {})
    try:
        return codec.encode(named)
    except UnstorableError:
        return uuid.uuid4().bytes  # options that cannot be compared: nobody else's


def is_replica(connection: Any) -> bool:
    """Is the alias declared as a copy of another one, in the way that Django's tests know?"""
    return bool((connection.settings_dict.get("TEST") or {}).get("MIRROR"))


def has_tenants(connection: Any) -> bool:
    """Does its backend set the search_path by itself, past Django's cursors, too?"""
    # Of django-tenants and tenant-schemas, and of django-pgschemas.
    return hasattr(connection, "schema_name") or hasattr(connection, "_search_path")


def driver_in_transaction(connection: Any) -> bool:
    """Does the driver say that a transaction is open? False for drivers that do not say."""
    raw = connection.connection
    if raw is None:
        return False
    if connection.vendor == "sqlite":
        try:
            return raw.in_transaction  # type: ignore[no-any-return]
        except raw.ProgrammingError:
            return False  # somebody has closed it below Django
    if connection.vendor == "postgresql":
        info = getattr(raw, "info", None)
        return bool(info is not None and info.transaction_status != 0)  # 0: idle
    return False


def driver_says_broken(connection: Any) -> bool:
    """Has an error ended the transaction? PostgreSQL refuses what follows; Django may not know."""
    info = getattr(connection.connection, "info", None)
    return connection.vendor == "postgresql" and getattr(info, "transaction_status", 0) == 3


def text_of(sql: Any, context: dict[str, Any]) -> str:
    """The text of a driver's own SQL object (psycopg's Composed and the like)."""
    as_string = getattr(sql, "as_string", None)
    if as_string is None:
        return "UNKNOWN"
    try:
        return str(as_string(context["connection"].connection))
    except Exception:
        return "UNKNOWN"
