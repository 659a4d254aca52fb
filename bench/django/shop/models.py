"""What every contender reads, with the manager that its settings name."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.utils.module_loading import import_string

Manager: Any = import_string(settings.SHOP_MANAGER)


class Category(models.Model):
    name = models.CharField(max_length=50)
    objects = Manager()


class Product(models.Model):
    name = models.CharField(max_length=50)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    active = models.BooleanField(default=True)
    stock = models.IntegerField(default=0)
    made = models.DateTimeField(auto_now_add=True)
    category = models.ForeignKey(Category, on_delete=models.CASCADE)
    objects = Manager()
