"""The user's Django project, where there is one: its settings, and the names of its tags."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from zoocache.exceptions import ConfigError
from zoocache.shm import Cache
from zoocache.telling import Names

VARIABLE = "DJANGO_SETTINGS_MODULE"


def set_up_django() -> bool:
    """Loads the project that DJANGO_SETTINGS_MODULE names; False if there is none.

    Does nothing where manage.py has done so. ConfigError if it cannot be loaded.
    """
    if is_set_up():
        return True
    module = os.environ.get(VARIABLE)
    if not module:
        return False
    if os.getcwd() not in sys.path:  # the command lies elsewhere, the project mostly here
        sys.path.insert(0, os.getcwd())
    try:
        import django

        django.setup()
        import zoocache.contrib.django  # noqa: F401  (hooks the ORM, and reads ZOOCACHE)
    except Exception as error:  # whatever a project's modules raise at import
        raise ConfigError(
            f"{VARIABLE} is {module!r}, and loading that project failed "
            f"({type(error).__name__}: {error}). Run this in the project's folder, with its "
            f"virtual environment; or unset {VARIABLE}, and name the segment with --name"
        ) from error
    return True


def is_set_up() -> bool:
    """Is a Django project loaded, with zoocache in it?"""
    if "django" not in sys.modules:
        return False
    from django.apps import apps

    return apps.ready and "zoocache.contrib.django" in sys.modules


def names_for(cache: Cache) -> Names:
    """The tags that can be named: with a Django project, those of its tables."""
    if not is_set_up():
        return Names(cache)
    from zoocache.contrib.django import known

    return Names(cache, known.tags(), told())


def told() -> Callable[[str], str]:
    """What puts tags into words."""
    if not is_set_up():
        return str
    from zoocache.contrib.django import tags

    return tags.told
