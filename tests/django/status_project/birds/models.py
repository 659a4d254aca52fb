from __future__ import annotations

from django.db import models

from zoocache.contrib.django import ZooCacheManager


class Bird(models.Model):
    name = models.CharField(max_length=40)

    objects = ZooCacheManager()
