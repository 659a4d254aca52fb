"""System checks: what can be seen wrong before the first request.

    E001  a setting cannot be used              W006  an alias looks like a replica
    E002  the segment cannot be attached        W007  MAX_LAG: a replica or an alias without it
    I001  the app is not installed              W008  a pooler, and no statement_timeout
    W001  a name hides the cached manager       W009  the isolation level is SERIALIZABLE
    W002  zoo_cache_signals = False             W010  sessions in a cache that may drop them
    W003  a pattern matches no model            W011  half of what reading one's writes takes
    W004  /dev/shm has no room                  of `check --deploy`: W020 DEBUG, W021 SHADOW,
    W005  another user's segment                W022 EVERYTHING, W023 ENABLED (off)
    W012  something put a hook out of force    W013  a group shares pickles
    W014  a backend for tenants, and no SCOPE

They are registered when the package is imported, whether or not the app is installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Warning, register, run_checks

from zoocache import config, doctor, sharers
from zoocache.contrib.django import hooks, options, patterns
from zoocache.contrib.django.aliases import check_aliases
from zoocache.contrib.django.manager import ZooCacheManager
from zoocache.contrib.django.meta import HOOK, has_signals
from zoocache.exceptions import ConfigError, SegmentError, SegmentMissingError
from zoocache.findings import Finding, Level
from zoocache.shm import Segment, is_outdated

TAG = "zoocache"
_OF_THE_DOCTOR = frozenset(f"zoocache.{number}" for number in ("E001", "E002", "W004", "W005"))
_APP = "zoocache.contrib.django"
_BACKEND = "zoocache.contrib.django.cache.ZooCache"
_READ_YOUR_WRITES = (
    "zoocache.contrib.django.middleware.ReadYourWritesMiddleware",
    "zoocache.contrib.django.routers.ReadYourWritesRouter",
)
_MUCH_SHADOW = 0.1


@register(TAG, "caches")
def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """E001, E002; W004 where there is no segment yet; W005 there, and where a group shares it."""
    try:
        options.check()
        given = config.resolve()
        if given.enabled:
            Segment(given.segment)
            if given.group is not None:
                return _warnings(sharers.other_users(given), "zoocache.W005")
    except ConfigError as error:
        return [Error(str(error), id="zoocache.E001")]
    except SegmentMissingError:  # the first worker makes it
        return [
            *_warnings(doctor.room_for(given.size), "zoocache.W004"),
            *_warnings(sharers.other_users(given), "zoocache.W005"),
            *_errors(sharers.membership(given)),
        ]
    except SegmentError as error:
        if not is_outdated(given.segment):  # after an upgrade, that the first worker replaces
            return [Error(str(error), id="zoocache.E002")]
    return []


def _errors(findings: Iterator[Finding]) -> list[CheckMessage]:
    return [Error(f"{one.what}.", hint=one.todo, id="zoocache.E002") for one in findings]


def _warnings(findings: Iterator[Finding], id: str) -> list[CheckMessage]:
    return [
        Warning(f"{finding.what}.", hint=finding.todo, id=id)
        for finding in findings
        if finding.level in (Level.WARNING, Level.PROBLEM)
    ]


@register(TAG, "caches")
def check_installed(**kwargs: Any) -> list[CheckMessage]:
    """I001."""
    if apps.is_installed(_APP):
        return []
    return [
        Info(
            f"zoocache is used, and {_APP} is not in INSTALLED_APPS: everything is cached all the "
            f"same, but there is no `manage.py zoocache`, no template tag and no status page.",
            hint=f'Add "{_APP}", or put "zoocache.I001" into SILENCED_SYSTEM_CHECKS.',
            id="zoocache.I001",
        )
    ]


@register(TAG, "models")
def check_hooks(**kwargs: Any) -> list[CheckMessage]:
    """W012."""
    return [
        Warning(
            f"{name} was replaced after zoocache had hooked it.",
            hint="Whatever replaces it must call what was there before (and use functools.wraps), "
            "or be imported first: without the hook reads are not cached, and each write drops "
            "its whole table or, if the wrapper is gone, nothing.",
            id="zoocache.W012",
        )
        for name in hooks.replaced()
    ]


@register(TAG, "models")
def check_managers(**kwargs: Any) -> list[CheckMessage]:
    """W001."""
    return [
        Warning(
            f"{model._meta.label}.cached is not the cached manager: something else has that name.",
            hint="Rename it, or declare a ZooCacheManager under another name and use that.",
            obj=model,
            id="zoocache.W001",
        )
        for model in apps.get_models()
        if any(isinstance(m, ZooCacheManager) for m in model._meta.managers)
        and not isinstance(getattr(model, "cached", None), ZooCacheManager)
    ]


@register(TAG, "models")
def check_signals(**kwargs: Any) -> list[CheckMessage]:
    """W002, W003."""
    found: list[CheckMessage] = []
    for model in apps.get_models():
        if not has_signals(model):
            unused = f", and {HOOK} is never called" if hasattr(model, HOOK) else ""
            found.append(
                Warning(
                    f"{model._meta.label} has zoo_cache_signals = False: each write to it drops "
                    f"everything that was read from its table{unused}.",
                    hint="Remove the key, unless that is what you want.",
                    obj=model,
                    id="zoocache.W002",
                )
            )
    for pattern in patterns.unmatched():
        found.append(
            Warning(
                f"ZOOCACHE['MODELS'] has {pattern!r}, which matches no model.",
                hint='A pattern is "app_label.ModelName", "app_label.*" or "*".',
                id="zoocache.W003",
            )
        )
    return found


register(check_aliases, TAG, "caches")


@register(TAG, "caches")
def check_sessions(**kwargs: Any) -> list[CheckMessage]:
    """W010."""
    if getattr(settings, "SESSION_ENGINE", "") != "django.contrib.sessions.backends.cache":
        return []
    alias = settings.SESSION_CACHE_ALIAS
    if settings.CACHES.get(alias, {}).get("BACKEND") != _BACKEND:
        return []
    return [
        Warning(
            f"Sessions are kept in CACHES[{alias!r}] and nowhere else, and that is zoocache, which "
            f"drops what it has no room for: users are logged out by a full segment, by "
            f"`zoocache clear` or resize, and by a reboot.",
            hint='SESSION_ENGINE = "django.contrib.sessions.backends.cached_db" reads as fast.',
            id="zoocache.W010",
        )
    ]


@register(TAG, "caches")
def check_pickles(**kwargs: Any) -> list[CheckMessage]:
    """W013."""
    try:
        shared = config.resolve(["GROUP"]).group is not None
    except ConfigError:  # told by E001
        return []
    return [
        Warning(
            f"CACHES[{alias!r}] keeps pickles in a segment that a group shares: each user of the "
            f"group can run code as each other that reads them, root included.",
            hint='"OPTIONS": {"SERIALIZER": "zoocache"}, which runs none.',
            id="zoocache.W013",
        )
        for alias, given in settings.CACHES.items()
        if shared
        and given.get("BACKEND") == _BACKEND
        and given.get("OPTIONS", {}).get("SERIALIZER", "pickle") != "zoocache"
    ]


@register(TAG, "caches")
def check_reading_own_writes(**kwargs: Any) -> list[CheckMessage]:
    """W011."""
    middleware, router = _READ_YOUR_WRITES
    there = middleware in settings.MIDDLEWARE, router in settings.DATABASE_ROUTERS
    if there[0] == there[1]:
        return []
    given, missing = (middleware, router) if there[0] else (router, middleware)
    place = "DATABASE_ROUTERS, the first of them" if there[0] else "MIDDLEWARE"
    return [
        Warning(
            f"{given} does nothing without {missing}.",
            hint=f"Add it to {place}.",
            id="zoocache.W011",
        )
    ]


@register(TAG, "caches", deploy=True)
def check_production(**kwargs: Any) -> list[CheckMessage]:
    """W020 to W023: what is good for tests and development only."""
    try:
        given, enabled = options.check(), config.resolve().enabled
    except ConfigError:
        return []  # E001 says it
    found: list[tuple[bool, str, str, str]] = [
        (
            settings.DEBUG,
            "DEBUG is on: Django keeps the text of each statement, so what zoocache saves cannot "
            "be seen in timings; and results of @cacheable functions outlive an edit of what they "
            "call.",
            "DEBUG = False; while you edit, `manage.py zoocache clear`.",
            "zoocache.W020",
        ),
        (
            given.shadow > _MUCH_SHADOW,
            f"ZOOCACHE['SHADOW'] is {given.shadow:g}: so many of all hits ask the database, too.",
            "0.01 finds what is wrong as well, in a day instead of in an hour.",
            "zoocache.W021",
        ),
        (
            given.everything,
            "ZOOCACHE['EVERYTHING'] is on, which is meant for tests: reads that must come from "
            "the database (before a get_or_create of your own, say) come from the cache.",
            "Name models in ZOOCACHE['MODELS'].",
            "zoocache.W022",
        ),
        (
            not enabled,
            "zoocache is switched off (ENABLED): nothing is read from the cache.",
            "Remove ENABLED, and ZOOCACHE_ENABLED from the environment.",
            "zoocache.W023",
        ),
    ]
    return [Warning(text, hint=hint, id=id) for is_so, text, hint, id in found if is_so]


def findings() -> list[Finding]:
    """What the checks find, for the doctor, but for what it looks at itself."""
    found = run_checks(tags=[TAG], include_deployment_checks=not settings.DEBUG)
    return [
        Finding(_level(message), f"{message.msg} ({message.id})", message.hint or "")
        for message in found
        if message.id not in _OF_THE_DOCTOR and not message.is_silenced()
    ]


def _level(message: CheckMessage) -> Level:
    if message.is_serious():
        return Level.PROBLEM
    return Level.NOTE if isinstance(message, Info) else Level.WARNING
