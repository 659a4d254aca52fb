"""zoocache for Django: `Model.cached`, kept fresh by what is written.

    from zoocache.contrib.django import ZooCacheManager

    class Product(models.Model):
        objects = ZooCacheManager()

    Product.cached.filter(active=True)

Importing this package hooks the ORM (see hooks.py for what and why).
"""

from typing import TYPE_CHECKING, Any

from zoocache.contrib.django import checks as checks  # registers them
from zoocache.contrib.django import hooks
from zoocache.contrib.django.decorators import cached_as, cached_view_as
from zoocache.contrib.django.manager import ZooCacheManager
from zoocache.contrib.django.queryset import ZooQuerySet, cached

if TYPE_CHECKING:
    from zoocache.contrib.django.rest_framework import (
        CacheableSerializerMixin,
        cacheable_serializer,
        cached_model_serializers,
    )

_OF_REST_FRAMEWORK = frozenset(
    ["CacheableSerializerMixin", "cacheable_serializer", "cached_model_serializers"]
)

__all__ = [
    "CacheableSerializerMixin",
    "ZooCacheManager",
    "ZooQuerySet",
    "cacheable_serializer",
    "cached",
    "cached_as",
    "cached_model_serializers",
    "cached_view_as",
]

hooks.install()


def __getattr__(name: str) -> Any:
    # Django REST framework cannot be imported before the app registry is ready.
    if name in _OF_REST_FRAMEWORK:
        from zoocache.contrib.django import rest_framework

        return getattr(rest_framework, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
