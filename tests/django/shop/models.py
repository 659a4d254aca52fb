"""The shop of the documentation, and one model for each way to declare one."""

from __future__ import annotations

import uuid

from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models

from shop.fields import ClerkKey, MoneyField, ShoutingField
from zoocache import invalidate
from zoocache.contrib.django import ZooCacheManager


class Category(models.Model):
    name = models.CharField(max_length=255)
    parent = models.ForeignKey("self", models.CASCADE, null=True, blank=True, related_name="below")
    rank = models.IntegerField(default=0)

    objects = ZooCacheManager()

    class Meta:
        ordering = ["pk"]


class Store(models.Model):
    """No manager of ours: reached through relations only."""

    name = models.CharField(max_length=255)


class Tag(models.Model):
    name = models.CharField(max_length=255)

    objects = ZooCacheManager()


class Brand(models.Model):
    code = models.CharField(max_length=20, unique=True)
    name = models.CharField(max_length=255)

    objects = ZooCacheManager()


class Product(models.Model):
    name = models.CharField(max_length=255)
    price = models.DecimalField(max_digits=10, decimal_places=2, default=0)
    active = models.BooleanField(default=True)
    stock = models.IntegerField(null=True)
    category = models.ForeignKey(Category, models.CASCADE, null=True)
    store = models.ForeignKey(Store, models.SET_NULL, null=True)
    brand = models.ForeignKey(Brand, models.CASCADE, to_field="code", null=True)
    related = models.ForeignKey("self", models.SET_NULL, null=True, related_name="relatives")
    tags = models.ManyToManyField(Tag)
    data = models.JSONField(default=dict)
    made = models.DateTimeField(null=True)
    day = models.DateField(null=True)

    objects = ZooCacheManager()

    def __str__(self) -> str:
        return self.name


class Discount(Product):
    """A proxy."""

    class Meta:
        proxy = True


class Detail(models.Model):
    product = models.OneToOneField(Product, models.CASCADE, related_name="detail")
    text = models.TextField(default="")
    weight = models.FloatField(null=True)
    length = models.DurationField(null=True)
    raw = models.BinaryField(null=True)

    objects = ZooCacheManager()


class Book(Product):
    """A multi-table child."""

    author = models.CharField(max_length=100)
    shelf = models.ForeignKey(Store, models.CASCADE, null=True)


class Shelf(models.Model):
    """Declares its manager in Meta."""

    name = models.CharField(max_length=50)

    class Meta:
        objects = ZooCacheManager(ttl=300)
        zoo_cache_signals = True


class Crate(models.Model):
    """Brings tags and a hook of its own."""

    label = models.CharField(max_length=50)
    shelf = models.ForeignKey(Shelf, models.CASCADE)

    objects = ZooCacheManager()

    saved: list[tuple[object, ...]] = []
    broken = False

    def zoocache_deps(self):
        if Crate.broken:
            raise ValueError("broken")
        return [f"box:{self.label}", f"Shelf:{self.shelf_id}"]

    @classmethod
    def zoocache_invalidate_on_save(cls, instance, **kwargs):
        cls.saved.append((instance.pk, kwargs["created"], kwargs["using"]))
        invalidate("Crate:list")
        if instance.label == "raise":
            raise ValueError(instance.label)


class Parcel(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    label = models.CharField(max_length=50)
    inner = models.ForeignKey("self", models.CASCADE, null=True)

    objects = ZooCacheManager()


class Base(models.Model):
    name = models.CharField(max_length=50)

    objects = ZooCacheManager()

    class Meta:
        abstract = True


class Leaf(Base):
    note = models.CharField(max_length=50, default="")


class Quick(models.Model):
    """Declares only `cached`."""

    name = models.CharField(max_length=50, unique=True)

    cached = ZooCacheManager(ttl=300)


class First(models.Model):
    """Declares `cached` in front of a manager of its own."""

    name = models.CharField(max_length=50)

    cached = ZooCacheManager()
    objects = models.Manager()


class Plain(models.Model):
    name = models.CharField(max_length=50)

    class Meta:
        abstract = True

    objects = models.Manager()


class Late(Plain):
    """Inherits `objects`, adds `cached`."""

    cached = ZooCacheManager()


class Payment(models.Model):
    amount = MoneyField()
    status = ShoutingField(max_length=20, default="new")
    clerk = ClerkKey(Store, models.CASCADE, null=True)
    till = models.ForeignKey(Store, models.CASCADE, null=True, related_name="payments_of_till")

    objects = ZooCacheManager()


class ActiveProduct(models.Model):
    """On a database view."""

    name = models.CharField(max_length=255)

    objects = ZooCacheManager()

    class Meta:
        managed = False
        db_table = "shop_activeproduct"


class SoftQuerySet(models.QuerySet):
    def delete(self):
        return self.update(gone=True)

    def update(self, **values):
        return super().update(**values) + 0

    def here(self):
        return self.filter(gone=False)


class Soft(models.Model):
    """The user's own queryset under the caching manager: rows are never really deleted."""

    name = models.CharField(max_length=50)
    gone = models.BooleanField(default=False)

    objects = ZooCacheManager.from_queryset(SoftQuerySet)()


class MigratingManager(ZooCacheManager):
    use_in_migrations = True


class Migrated(models.Model):
    name = models.CharField(max_length=50)

    objects = MigratingManager()


class Left(models.Model):
    left_key = models.AutoField(primary_key=True)
    name = models.CharField(max_length=50)


class Right(models.Model):
    right_key = models.AutoField(primary_key=True)


class Both(Left, Right):
    """Its primary key is not the first one among its columns."""

    right_ptr = models.OneToOneField(
        Right, models.CASCADE, parent_link=True, primary_key=True, related_name="both"
    )
    store = models.ForeignKey(Store, models.CASCADE, null=True)

    objects = ZooCacheManager()


class Slug(models.Model):
    """A text primary key."""

    slug = models.CharField(max_length=100, primary_key=True)
    note = models.CharField(max_length=50, default="")

    objects = ZooCacheManager()


class Exhibit(models.Model):
    """Has generic relations, and a many-to-many table of the user's own."""

    name = models.CharField(max_length=50)
    home = models.ForeignKey(
        Store, models.SET_DEFAULT, null=True, default=None, related_name="exhibits"
    )
    visitors = models.ManyToManyField(Store, through="Visit", related_name="visited")
    remarks = GenericRelation("Remark", "number", "kind")

    objects = ZooCacheManager()


class Visit(models.Model):
    exhibit = models.ForeignKey(Exhibit, models.CASCADE)
    store = models.ForeignKey(Store, models.CASCADE)
    paid = models.BooleanField(default=False)


class Remark(models.Model):
    """About anything."""

    kind = models.ForeignKey(ContentType, models.CASCADE)
    number = models.PositiveBigIntegerField()
    about = GenericForeignKey("kind", "number")
    text = models.CharField(max_length=50)

    objects = ZooCacheManager()
