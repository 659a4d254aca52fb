"""The Django app. Installing it is optional: it adds the system checks."""

from __future__ import annotations

from django.apps import AppConfig


class ZooCacheConfig(AppConfig):
    name = "zoocache.contrib.django"
    label = "zoocache"
    verbose_name = "zoocache"

    def ready(self) -> None:
        from zoocache.contrib.django import checks  # noqa: F401
