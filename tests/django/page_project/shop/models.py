from django.db import models

from zoocache.contrib.django import ZooCacheManager


class Category(models.Model):
    name = models.CharField(max_length=255)

    objects = ZooCacheManager()


class Store(models.Model):
    name = models.CharField(max_length=255)


class Tag(models.Model):
    name = models.CharField(max_length=255)


class Product(models.Model):
    name = models.CharField(max_length=255)
    price = models.DecimalField(max_digits=10, decimal_places=2)
    active = models.BooleanField(default=True)
    category = models.ForeignKey(Category, on_delete=models.CASCADE)
    store = models.ForeignKey(Store, on_delete=models.CASCADE)
    tags = models.ManyToManyField(Tag)

    objects = ZooCacheManager()

    class Meta:
        db_table = "product"
