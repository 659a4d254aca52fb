"""Must type-check under mypy --strict with django-stubs' plugin."""

from __future__ import annotations

from django.db.models import Count
from rest_framework import serializers
from typing_extensions import assert_type

from stall.models import Category, InMeta, Order, Price, PriceQuerySet, Product, Ticket
from zoocache.contrib.django import (
    CacheableSerializerMixin,
    ZooCacheManager,
    ZooQuerySet,
    cacheable_serializer,
    cached,
    cached_model_serializers,
)


def managers() -> None:
    assert_type(Product.objects, ZooCacheManager[Product])
    assert_type(Product.cached, ZooCacheManager[Product])
    assert_type(Category.cached, ZooCacheManager[Category])
    assert_type(Order.cached, ZooCacheManager[Order])
    assert_type(InMeta.cached, ZooCacheManager[InMeta])
    assert_type(Category.objects.all().get(), Category)  # not cached: Django's own
    Category.objects.zoocache()  # type: ignore[attr-defined]


def own_managers() -> None:
    assert_type(Ticket.cached.open(), ZooQuerySet[Ticket])
    assert_type(Price.objects.low(), PriceQuerySet)
    assert_type(Price.cached.filter(cents=5).low(), PriceQuerySet)


def rows() -> None:
    assert_type(Product.cached.filter(name="tea").zoocache(ttl=3).first(), Product | None)
    assert_type(Product.cached.values_list("name", "id").get(), tuple[str, int])
    assert_type(Product.cached.all().values_list("name", flat=True).no_cache().get(), str)
    assert_type(Product.cached.values("name").zoocache().get()["name"], str)
    assert_type(Category.cached.annotate(products=Count("product")).get().products, int)
    assert_type(cached(Category(id=1).product_set).get(), Product)
    assert_type(cached(Category).get(), Category)


async def asynchronously() -> None:
    assert_type(await Order.cached.aget(pk=1), Order)
    async for order in Order.cached.filter(product__name="tea").zoocache(ttl=None):
        assert_type(order.product.category, Category)


@cacheable_serializer
class OfProduct(serializers.Serializer): ...  # type: ignore[misc]


@cacheable_serializer(ttl=300)
class OfCategory(CacheableSerializerMixin, serializers.Serializer):  # type: ignore[misc]
    zoocache_model = Category


def decorated() -> None:
    cached_model_serializers()
    assert_type(OfProduct(), OfProduct)
    assert_type(OfCategory(), OfCategory)


def wrong() -> None:
    Product.cached.filter(nam="tea")  # type: ignore[misc]
    Product.cached.zoocache(ttl="5")  # type: ignore[arg-type]
