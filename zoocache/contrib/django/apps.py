"""The Django app. Installing it is optional: it adds the command, the template tag, and a page
in the admin.
"""

from __future__ import annotations

from django.apps import AppConfig

from zoocache import logs


class ZooCacheConfig(AppConfig):
    name = "zoocache.contrib.django"
    label = "zoocache"
    verbose_name = "zoocache"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        logs.start()
