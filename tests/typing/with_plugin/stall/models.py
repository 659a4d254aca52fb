"""Must type-check under mypy --strict with django-stubs' plugin: nothing is annotated here."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from zoocache.contrib.django import ZooCacheManager, ZooQuerySet


class Category(models.Model):
    name = models.CharField(max_length=255)
    cached = ZooCacheManager(ttl=300)  # and Django's own `objects`


class Product(models.Model):
    name = models.CharField(max_length=255)
    category = models.ForeignKey(Category, on_delete=models.CASCADE)
    objects = ZooCacheManager()  # and `cached`


class Base(models.Model):
    objects = ZooCacheManager()

    class Meta:
        abstract = True


class Order(Base):
    product = models.ForeignKey(Product, on_delete=models.CASCADE)


class ManagerOfOpen(ZooCacheManager["Ticket"]):
    def open(self) -> ZooQuerySet[Ticket]:
        return self.filter(closed=False)


class Ticket(models.Model):
    closed = models.BooleanField(default=False)
    objects = ManagerOfOpen()


class PriceQuerySet(ZooQuerySet["Price"]):
    def low(self) -> PriceQuerySet:
        return self.filter(cents__lt=100)


PriceManager = ZooCacheManager.from_queryset(PriceQuerySet)


class Price(models.Model):
    cents = models.IntegerField()
    objects = PriceManager()
    cached: ClassVar[PriceManager[Price]]  # type: ignore[valid-type]


class InMeta(models.Model):
    name = models.CharField(max_length=255)

    class Meta:
        objects = ZooCacheManager()
