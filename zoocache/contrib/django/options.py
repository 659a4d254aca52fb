"""The keys of the ZOOCACHE setting that only Django has; docs/settings.md explains them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from django.conf import settings
from django.utils.module_loading import import_string

from zoocache import config, store
from zoocache.contrib.django.lexer import last_part
from zoocache.exceptions import ConfigError

LABEL: Final = "ZOOCACHE['{key}'] in Django settings"


class Rule(NamedTuple):
    """What `MODELS` says of the models that match a pattern."""

    ttl: float | None = None


class Options(NamedTuple):
    """Checked values, with the defaults."""

    quarantine: float = 60.0
    """Seconds for which a server may commit after the death of its client."""
    max_lag: Mapping[str, float] = {}
    """Seconds by which the replica of an alias may lag behind."""
    scope: Callable[[Any], object] | None = None
    """Gives, for a connection, what its rows depend on beside its database: a tenant."""
    shadow: float = 0.0
    """The share of hits that are compared with the database, from 0 to 1."""
    procedures: Mapping[str, frozenset[str]] = {}
    """The tables that the database's functions and procedures write, by their names."""
    models: Mapping[str, Rule | None] = {}
    """Models whose `objects` caches, by pattern: "auth.user", "auth.*", "*.*"."""
    everything: bool = False
    """Every queryset of every model is cached: for tests."""
    usable: bool = True
    """False where one is wrong: then nothing is read from the cache."""


_checked: tuple[int, Options] | None = None
_PATTERN = re.compile(r"\w+\.(?:\w+|\*)|\*(?:\.\*)?")


def given() -> Mapping[str, Any]:
    """The ZOOCACHE setting."""
    return getattr(settings, "ZOOCACHE", None) or {}


def check() -> Options:
    """The options, anew. Raises ConfigError for one that cannot be used."""
    values = given()
    return Options(**{key.lower(): _CHECKS[key](values[key], key) for key in KEYS & values.keys()})


def options() -> Options:
    """The options in force. One that cannot be used is logged once and turns reading off."""
    global _checked
    generation = config.generation()
    if _checked is None or _checked[0] != generation:
        try:
            _checked = generation, check()
        except ConfigError as error:
            store.log_once(f"the cache is off, everything is read from the database: {error}")
            _checked = generation, Options(usable=False)
    return _checked[1]


def _seconds(value: object, key: str) -> float:
    return config.check_seconds(value, LABEL.format(key=key))


def _lags(value: object, key: str) -> Mapping[str, float]:
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"{LABEL.format(key=key)} is {value!r}: it takes a dict of seconds by alias, like "
            f"{{'replica': 2}}"
        )
    return {str(alias): _seconds(lag, key) for alias, lag in value.items()}


def _callable(value: object, key: str) -> Callable[[Any], object] | None:
    if value is None:
        return None
    try:
        found = import_string(value) if isinstance(value, str) else value
    except ImportError as error:
        raise ConfigError(f"{LABEL.format(key=key)} cannot be imported: {error}") from error
    if not callable(found):
        raise ConfigError(
            f"{LABEL.format(key=key)} is {value!r}: it takes a function of a connection, or the "
            f"dotted path of one"
        )
    return found  # type: ignore[no-any-return]


def _procedures(value: object, key: str) -> Mapping[str, frozenset[str]]:
    label = LABEL.format(key=key)
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"{label} is {value!r}: it takes a dict of tables by the name of the function or "
            f"procedure that writes them, like {{'recount': ['shop_product']}}"
        )
    for name, tables in value.items():
        if isinstance(tables, str) or not all(isinstance(table, str) for table in tables):
            raise ConfigError(f"{label}[{name!r}] is {tables!r}: it takes a list of tables")
    # Without their schemas, in any case, as they are compared.
    return {last_part(name).lower(): frozenset(tables) for name, tables in value.items()}


def _share(value: object, key: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    raise ConfigError(f"{LABEL.format(key=key)} is {value!r}: it takes a share from 0 to 1")


def _models(value: object, key: str) -> Mapping[str, Rule | None]:
    label = LABEL.format(key=key)
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"{label} is {value!r}: it takes a dict of options by pattern, like "
            f'{{"auth.*": {{"ttl": 300}}}}'
        )
    rules: dict[str, Rule | None] = {}
    for pattern, given in value.items():
        if not _PATTERN.fullmatch(str(pattern)):
            raise ConfigError(f'{label} has {pattern!r}: a pattern is "app.Model", "app.*" or "*"')
        app, _, model = str(pattern).partition(".")
        if given is not None and (not isinstance(given, Mapping) or not {"ttl"} >= {*given}):
            raise ConfigError(
                f'{label}[{pattern!r}] is {given!r}: it takes {{}}, {{"ttl": seconds}}, or None '
                f"for models that are not cached"
            )
        rules[f"{app}.{model.lower()}" if model else app] = (
            None if given is None else Rule(config.check_ttl(given.get("ttl")))
        )
    return rules


def _switch(value: object, key: str) -> bool:
    if isinstance(value, bool):
        return value
    raise ConfigError(f"{LABEL.format(key=key)} is {value!r}: it takes True or False")


_CHECKS: Final[Mapping[str, Callable[[object, str], Any]]] = {
    "QUARANTINE": _seconds,
    "MAX_LAG": _lags,
    "SCOPE": _callable,
    "SHADOW": _share,
    "PROCEDURES": _procedures,
    "MODELS": _models,
    "EVERYTHING": _switch,
}
KEYS: Final = frozenset(_CHECKS)
