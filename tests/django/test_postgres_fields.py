"""Fields and expressions of django.contrib.postgres: cached where they always mean the same."""

from __future__ import annotations

from typing import Any

from fresh import run_models

MODELS = """
from django.contrib.postgres.fields import ArrayField

class Item(models.Model):
    name = models.CharField(max_length=20)
    tags = ArrayField(models.CharField(max_length=10), default=list)
    days = ArrayField(models.DateField(), default=list)
    shop = models.ForeignKey(Shop, models.CASCADE)
    objects = ZooCacheManager()
"""
BODY = """
import datetime
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.aggregates import ArrayAgg, BoolAnd, JSONBAgg
from django.contrib.postgres.expressions import ArraySubquery
from django.contrib.postgres.functions import RandomUUID, TransactionNow
from django.contrib.postgres.search import SearchVector
from django.db.models import DateField, F, OuterRef, Value
from django.db.models.functions import Cast

shops = [Shop.objects.create(name=name) for name in "ab"]
for name, tags in (("one", ["a"]), ("two", ["b", "a"]), ("three", [])):
    Item.objects.create(name=name, tags=tags, shop=shops[0])
day = datetime.date(2024, 1, 1)
Item.objects.filter(name="one").update(days=[day])

def names(**lookups):
    rows = Item.cached.filter(**lookups).order_by("pk")
    return lambda: [item.name for item in rows.all()]

of_items = Item.objects.filter(shop=OuterRef("pk")).order_by("pk")
all_old = BoolAnd(models.Q(item__name__in=["one", "two", "three"]), default=None)
READS = [
    names(tags__contains=["a"]),
    names(tags__overlap=["a", "x"]),
    names(tags=["a"]),
    names(tags__0="a"),
    names(tags__0_1=["a"]),
    names(tags__len=1),
    names(tags__in=[["a"], ["c"]]),
    names(days__contains=[day]),
    lambda: list(Item.cached.order_by("pk").values_list("tags", "days")),
    lambda: list(Item.cached.order_by("pk").values_list(F("tags__0"))),
    lambda: Item.cached.aggregate(x=ArrayAgg("name", distinct=True, default=None)),
    lambda: Item.cached.aggregate(x=JSONBAgg("tags", default=None)),
    lambda: list(Shop.cached.annotate(x=all_old).values("x")),
    lambda: list(Shop.cached.annotate(x=ArraySubquery(of_items.values("name"))).values("x")),
]

def write():
    item = Item.objects.get(name="one")
    item.name, item.tags, item.days = "changed", ["z", "y"], []
    item.save()

check(READS, write)

# A list in a row is its caller's own.
Item.cached.get(name="changed").tags.append("mine")
assert Item.cached.get(name="changed").tags == ["z", "y"]

def is_cached(read):
    read()
    with CaptureQueriesContext(connection) as captured:
        read()
    return not len(captured)

array_of_days = ArrayField(DateField())
assert is_cached(lambda: list(Item.cached.filter(tags__contains=["a"])))
for read in (
    lambda: list(Item.cached.annotate(x=Cast(Value("{today}"), array_of_days)).values("x")),
    lambda: list(Item.cached.filter(pk=0).annotate(x=Cast("name", array_of_days)).values("x")),
    lambda: list(Item.cached.annotate(x=RandomUUID())),
    lambda: list(Item.cached.annotate(x=TransactionNow())),
    lambda: list(Item.cached.annotate(x=SearchVector("name")).filter(x="one")),
    lambda: list(Item.cached.annotate(x=models.Func("tags", function="CARDINALITY"))),
):
    assert not is_cached(read)
"""


def test_arrays_aggregates_and_what_is_left_to_the_database(
    postgres: Any, tmp_path: Any, short_name: str
) -> None:
    keys = ("ENGINE", "NAME", "HOST", "PORT", "USER", "PASSWORD")
    database = {key: postgres.settings_dict[key] for key in keys}
    run_models(tmp_path, short_name, MODELS, BODY, database)
