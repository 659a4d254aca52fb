"""The Django app. Installing it is optional: it adds the command and the template tag."""

from __future__ import annotations

from django.apps import AppConfig


class ZooCacheConfig(AppConfig):
    name = "zoocache.contrib.django"
    label = "zoocache"
    verbose_name = "zoocache"
