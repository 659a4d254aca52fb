"""The system checks of DATABASES: replicas, poolers, isolation, tenants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Warning
from django.db import connections

from zoocache.contrib.django import options
from zoocache.contrib.django.databases import has_tenants, is_replica
from zoocache.exceptions import ConfigError

_POOLERS = ("pgbouncer", "pooler", "pgcat", "odyssey", "supavisor")
_POOLER_PORT = "6432"


def check_aliases(**kwargs: Any) -> list[CheckMessage]:
    """W006 to W009, W014."""
    try:
        given = options.check()
    except ConfigError:
        return []  # E001 says it
    found: list[CheckMessage] = []
    for alias in connections:
        connection = connections[alias]
        found += _replica(alias, connection, given)
        found += _pooler(alias, connection, given)
        found += _isolation(alias, connection)
        found += _tenants(alias, connection, given)
    for alias in given.max_lag:
        if alias not in connections:
            found.append(
                Warning(
                    f"ZOOCACHE['MAX_LAG'] has {alias!r}, which is no alias of DATABASES.",
                    hint=f"There are {', '.join(connections)}.",
                    id="zoocache.W007",
                )
            )
    return found


def _replica(alias: str, connection: Any, given: options.Options) -> Iterator[CheckMessage]:
    if alias in given.max_lag:
        return
    if is_replica(connection):
        yield Warning(
            f"DATABASES[{alias!r}] is a replica (TEST MIRROR) without a MAX_LAG: nothing that is "
            f"read from it is cached.",
            hint=f'ZOOCACHE["MAX_LAG"] = {{"{alias}": 2}} says that it lags behind by no more than '
            f"2 seconds; what is cached of it counts from so long ago.",
            id="zoocache.W007",
        )
        return
    for other in connections:
        if other < alias and _same_database(connections[other], connection):
            yield Warning(
                f"DATABASES[{alias!r}] and [{other!r}] are one database on two servers, and "
                f"neither is declared as a replica: if one is, what is read from it while it lags "
                f"behind may be cached, and stay stale.",
                hint='Declare the replica: "TEST": {"MIRROR": "<the primary>"}, or '
                'ZOOCACHE["MAX_LAG"] = {"<the replica>": seconds}.',
                id="zoocache.W006",
            )


def _same_database(one: Any, other: Any) -> bool:
    """One name on two servers, by the settings."""
    if one.vendor == "sqlite" or is_replica(one) or one.alias in options.check().max_lag:
        return False
    mine, others = one.settings_dict, other.settings_dict

    def server(settings: Any) -> tuple[str, str]:
        return str(settings.get("HOST") or ""), str(settings.get("PORT") or "")

    return (
        one.vendor == other.vendor
        and mine.get("NAME") == others.get("NAME")
        and server(mine) != server(others)
    )


def _pooler(alias: str, connection: Any, given: options.Options) -> Iterator[CheckMessage]:
    settings = connection.settings_dict
    in_between = (
        str(settings.get("PORT") or "") == _POOLER_PORT
        or settings.get("DISABLE_SERVER_SIDE_CURSORS")
        or any(name in str(settings.get("HOST") or "").lower() for name in _POOLERS)
    )
    if connection.vendor != "postgresql" or not in_between:
        return
    if "statement_timeout" in str((settings.get("OPTIONS") or {}).get("options", "")):
        return
    yield Warning(
        f"DATABASES[{alias!r}] seems to go through a pooler, and sets no statement_timeout: when a "
        f"worker dies around a COMMIT, its session cannot be asked for. What it announced is read "
        f"from the database for {given.quarantine:g} s (QUARANTINE); a statement that the server "
        f"finishes even later may leave a stale row.",
        hint="Set statement_timeout below QUARANTINE: ALTER ROLE ... SET statement_timeout = "
        '\'30s\', or OPTIONS = {"options": "-c statement_timeout=30s"}. If that is done on the '
        "server, silence zoocache.W008.",
        id="zoocache.W008",
    )


def _isolation(alias: str, connection: Any) -> Iterator[CheckMessage]:
    settings = connection.settings_dict
    if "SERIALIZABLE" not in _level(connection):
        return
    each = " ATOMIC_REQUESTS puts every request into such a transaction." * bool(
        settings.get("ATOMIC_REQUESTS")
    )
    yield Warning(
        f"DATABASES[{alias!r}] is at the SERIALIZABLE level: nothing that is read from it comes "
        f"from the cache, as a cached read takes no predicate lock.{each}",
        hint="Use the default level, and SERIALIZABLE on an alias of its own for what needs it.",
        id="zoocache.W009",
    )


def _tenants(alias: str, connection: Any, given: options.Options) -> Iterator[CheckMessage]:
    if has_tenants(connection) and given.scope is None:
        yield Warning(
            f"DATABASES[{alias!r}] has a backend that chooses a schema for each tenant, and "
            f"ZOOCACHE does not say whose rows are whose: nothing that is read from it is cached.",
            hint='Say it: ZOOCACHE["SCOPE"] = "<dotted path of a function>", one such as '
            'lambda connection: getattr(connection, "schema_name", "").',
            id="zoocache.W014",
        )


def _level(connection: Any) -> str:
    """The isolation level that the settings ask for, as a name; "" if they ask for none."""
    level = (connection.settings_dict.get("OPTIONS") or {}).get("isolation_level")
    if isinstance(level, int) and connection.vendor == "postgresql":
        from django.db.backends.postgresql.psycopg_any import IsolationLevel

        level = IsolationLevel(level)
    return str(getattr(level, "name", level) or "").upper()
