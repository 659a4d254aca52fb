"""zoocache for Django: `Model.cached`, kept fresh by what is written.

    from zoocache.contrib.django import ZooCacheManager

    class Product(models.Model):
        objects = ZooCacheManager()

    Product.cached.filter(active=True)

Importing this package hooks the ORM (see hooks.py for what and why).
"""

from zoocache.contrib.django import hooks
from zoocache.contrib.django.manager import ZooCacheManager
from zoocache.contrib.django.queryset import ZooQuerySet

__all__ = ["ZooCacheManager", "ZooQuerySet"]

hooks.install()
