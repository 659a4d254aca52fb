"""The one model of the site under test."""

from django.db import models

from zoocache.contrib.django import ZooCacheManager


class Thing(models.Model):
    value = models.IntegerField()

    objects = ZooCacheManager()
