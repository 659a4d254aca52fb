"""The app has no tables. Its model gives the status page a place in the admin, and permissions."""

from __future__ import annotations

from django.db import models


class Status(models.Model):
    """How the cache is doing: see admin.py. There are no rows of it."""

    class Meta:
        app_label = "zoocache"
        managed = False
        default_permissions = ("view",)
        permissions = [("invalidate_status", "Can invalidate what is cached")]
        verbose_name = "cache status"
        verbose_name_plural = "cache status"
