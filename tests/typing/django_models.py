"""Must type-check under mypy --strict without a plugin: managers that say whose they are."""

from __future__ import annotations

import datetime
from typing import Any, ClassVar

from django.contrib.auth.models import User
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from typing_extensions import Self, assert_type

from zoocache.contrib.django import (
    ZooCacheManager,
    ZooQuerySet,
    cached,
    cached_as,
    cached_view_as,
)


class Product(models.Model):
    name: models.CharField[str, str] = models.CharField(max_length=255)
    active: models.BooleanField[bool, bool] = models.BooleanField(default=True)

    objects: ClassVar[ZooCacheManager[Self]] = ZooCacheManager()
    cached: ClassVar[ZooCacheManager[Self]]  # `objects` brings it along


class Book(Product):
    pages: models.IntegerField[int, int] = models.IntegerField()


class Unsaid(models.Model):
    objects = ZooCacheManager()
    cached = ZooCacheManager(ttl=300)


def managers() -> None:
    assert_type(Product.objects, ZooCacheManager[Product])
    assert_type(Product.cached, ZooCacheManager[Product])
    assert_type(Book.cached.get(pk=1), Book)
    assert_type(Unsaid.cached, ZooCacheManager[Any])
    assert_type(Product.cached.create(name="tea"), Product)
    assert_type(Product.cached.bulk_create([Product()]), list[Product])


def querysets() -> None:
    queryset = Product.cached.filter(active=True)
    assert_type(queryset, ZooQuerySet[Product])
    assert_type(queryset.zoocache(ttl=60).order_by("name").no_cache(), ZooQuerySet[Product])
    assert_type(queryset.select_related(None)[1:3].first(), Product | None)
    assert_type(Product.cached.all() | Product.objects.all(), ZooQuerySet[Product])
    assert_type(Product.objects.no_cache().count(), int)
    assert_type(Product.cached.zoocache(ttl=None).exists(), bool)
    assert_type(Product.cached.values("name").zoocache().get(), dict[str, Any])
    assert_type(list(Product.cached.dates("name", "day").zoocache()), list[datetime.date])
    for product in queryset:
        assert_type(product.name, str)


async def asynchronously() -> None:
    assert_type(await Product.cached.aget(pk=1), Product)
    assert_type(await Product.cached.filter(active=True).acount(), int)
    async for product in Product.cached.exclude(active=True).zoocache():
        assert_type(product, Product)


def of_others(user: User) -> None:
    assert_type(cached(User), ZooQuerySet[User])
    assert_type(cached(User.objects, ttl=5), ZooQuerySet[User])
    assert_type(cached(User.objects.filter(is_staff=True), ttl=None), ZooQuerySet[User])
    assert_type(cached(User.objects.values("id")).get(), dict[str, Any])
    assert_type(cached(Product.cached.all()).first(), Product | None)


@cached_as(Product, lambda name, *, exact: Product.objects.filter(name=name), ttl=60)
def count(name: str, *, exact: bool = False) -> int:
    return 1


@cached_as(Product.objects.all())
async def names() -> list[str]:
    return []


@cached_view_as(Product, ttl=60, vary_on=["Accept"])
def page(request: HttpRequest, number: int) -> HttpResponse:
    return HttpResponse()


async def functions(request: HttpRequest) -> None:
    assert_type(count("tea", exact=True), int)
    assert_type(await names(), list[str])
    assert_type(page(request, 1), HttpResponseBase)
    count(1)  # type: ignore[arg-type]


def wrong(request: HttpRequest) -> None:
    ZooCacheManager(ttl="5")  # type: ignore[arg-type]
    ZooQuerySet(Product).zoocache(ttl="5")  # type: ignore[arg-type]
    cached(Product())  # type: ignore[call-overload]
    page(request, number="1")  # type: ignore[arg-type]

    @cached_view_as()  # type: ignore[arg-type]
    async def asynchronous(request: HttpRequest) -> HttpResponse:
        return HttpResponse()
