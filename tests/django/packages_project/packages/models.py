"""A model for each package that has managers, querysets, fields or signals of its own."""

from __future__ import annotations

from django.db import models
from djmoney.models.fields import MoneyField
from model_utils import FieldTracker
from model_utils.managers import InheritanceManager
from mptt.models import MPTTModel, TreeForeignKey
from ordered_model.models import OrderedModel, OrderedModelQuerySet
from parler.models import TranslatableModel, TranslatedFields
from polymorphic.models import PolymorphicModel
from safedelete.models import SOFT_DELETE, SafeDeleteModel
from simple_history.models import HistoricalRecords
from taggit.managers import TaggableManager
from treebeard.mp_tree import MP_Node

from zoocache.contrib.django import ZooCacheManager


class News(models.Model):
    title = models.CharField(max_length=50)  # modeltranslation makes one for each language

    objects = ZooCacheManager()


class Animal(PolymorphicModel):
    name = models.CharField(max_length=20)


class Dog(Animal):
    barks = models.BooleanField(default=True)


class Cat(Animal):
    lives = models.IntegerField(default=9)


class Place(MPTTModel):
    name = models.CharField(max_length=20)
    parent = TreeForeignKey(
        "self", null=True, blank=True, on_delete=models.CASCADE, related_name="children"
    )


class Node(MP_Node):
    name = models.CharField(max_length=20)


class Vehicle(models.Model):
    name = models.CharField(max_length=20)

    objects = InheritanceManager()


class Car(Vehicle):
    doors = models.IntegerField(default=4)


class Article(SafeDeleteModel):
    _safedelete_policy = SOFT_DELETE

    name = models.CharField(max_length=20)

    tracker = FieldTracker()


class Poll(models.Model):
    question = models.CharField(max_length=20)

    tags = TaggableManager()
    history = HistoricalRecords()


class Page(TranslatableModel):
    translations = TranslatedFields(title=models.CharField(max_length=20))


class Product(OrderedModel):
    price = MoneyField(max_digits=14, decimal_places=2, default_currency="USD")

    objects = ZooCacheManager.from_queryset(OrderedModelQuerySet)()


class Region(models.Model):
    name = models.CharField(max_length=20, primary_key=True)
    parent = models.ForeignKey("self", null=True, on_delete=models.CASCADE)


class Sale(models.Model):
    region = models.ForeignKey(Region, on_delete=models.CASCADE)
    amount = models.IntegerField()
