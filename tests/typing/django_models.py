"""Must type-check under mypy --strict: models with a ZooCacheManager, and querysets of it."""

from __future__ import annotations

from django.db import models

from zoocache.contrib.django import ZooCacheManager, ZooQuerySet


class Product(models.Model):
    name: models.CharField[str, str] = models.CharField(max_length=255)
    active: models.BooleanField[bool, bool] = models.BooleanField(default=True)

    objects = ZooCacheManager()
    cached = ZooCacheManager(ttl=300)


def reads() -> None:
    queryset = Product.cached.filter(active=True).zoocache(ttl=60)
    for product in queryset.order_by("name"):
        print(product.name)
    Product.objects.no_cache().count()
    Product.cached.zoocache(ttl=None).exists()
    products: ZooQuerySet[Product] = ZooQuerySet(Product)
    print(products.zoocache().no_cache().first())


def wrong() -> None:
    ZooCacheManager(ttl="5")  # type: ignore[arg-type]
    ZooQuerySet(Product).zoocache(ttl="5")  # type: ignore[arg-type]
