"""System checks: what can be seen wrong before the first request."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error, Warning, register

from zoocache import config
from zoocache.contrib.django import options, patterns
from zoocache.contrib.django.manager import ZooCacheManager
from zoocache.contrib.django.meta import HOOK, has_signals
from zoocache.exceptions import ConfigError, SegmentError, SegmentMissingError
from zoocache.shm import Segment


@register("caches")
def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """zoocache.E001: a setting cannot be used. zoocache.E002: the segment cannot be attached."""
    try:
        options.check()
        settings = config.resolve()
        if settings.enabled:
            Segment(settings.name)
    except ConfigError as error:
        return [Error(str(error), id="zoocache.E001")]
    except SegmentMissingError:
        return []  # the first worker makes it
    except SegmentError as error:
        return [Error(str(error), id="zoocache.E002")]
    return []


@register("models")
def check_managers(**kwargs: Any) -> list[CheckMessage]:
    """zoocache.W001: a model's own name hides the cached manager."""
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


@register("models")
def check_signals(**kwargs: Any) -> list[CheckMessage]:
    """zoocache.W002: a model's writes say no rows. zoocache.W003: a pattern matches no model."""
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
