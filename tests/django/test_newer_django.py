"""Primary keys of several columns, and cascades by the database: where this Django has them."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import models
from fresh import run_models


@pytest.mark.skipif(
    not hasattr(models, "CompositePrimaryKey"), reason="composite keys came with Django 5.2"
)
def test_composite_primary_keys(tmp_path: Any, short_name: str) -> None:
    line = """
    class Line(models.Model):
        pk = models.CompositePrimaryKey("order", "number")
        order = models.IntegerField()
        number = models.IntegerField()
        text = models.CharField(max_length=20)
        shop = models.ForeignKey(Shop, models.CASCADE)
        objects = ZooCacheManager()
    """
    body = """
    from zoocache import invalidate
    shops = [Shop.objects.create(name=name) for name in "ab"]
    for order in (1, 2):
        for number in (1, 2, 3):
            Line.objects.create(order=order, number=number, text="old", shop=shops[number % 2])
    get = lambda: Line.cached.get(pk=(1, 2)).text
    keys = lambda: sorted(Line.cached.filter(pk__in=[(1, 1), (1, 2), (9, 9)]).values_list("text"))
    absent = lambda: Line.cached.filter(pk=(9, 9)).exists()
    rows = lambda: [(l.pk, l.text) for l in Line.cached.filter(order=1).order_by("pk")]
    lines = lambda: [(l.pk, l.text) for l in Line.cached.filter(shop=1).select_related("shop")]
    bulk = lambda: {pk: l.text for pk, l in Line.cached.in_bulk([(1, 2), (9, 9)]).items()}

    def save():
        line = Line.objects.get(pk=(1, 2))
        line.text = "saved"
        line.save()

    check([get, keys, rows, lines, bulk], save)
    check([get, keys, bulk], lambda: Line.objects.filter(pk=(1, 2)).update(text="updated"))
    check([keys, absent, bulk], lambda: Line.objects.create(pk=(9, 9), text="new", shop_id=2))
    check([lines], lambda: Line.objects.filter(pk=(9, 9)).update(shop=1))
    check([absent, keys], lambda: Line.objects.get(pk=(9, 9)).delete())
    assert check([get, rows], lambda: Line.objects.bulk_update(
        [Line(pk=(1, 2), text="bulk")], ["text"]
    ))[0] == "bulk"
    get()
    invalidate("Line:(1, 2)")
    with CaptureQueriesContext(connection) as captured:
        get()
    assert len(captured) == 1
    """
    run_models(tmp_path, short_name, line, body)


@pytest.mark.skipif(
    not hasattr(models, "DB_CASCADE"), reason="the database cascades from Django 6.1 on"
)
def test_what_the_database_cascades_to(tmp_path: Any, short_name: str) -> None:
    below = """
    class Child(models.Model):
        shop = models.ForeignKey(Shop, models.DB_CASCADE)
        objects = ZooCacheManager()

    class Grandchild(models.Model):
        child = models.ForeignKey(Child, models.DB_CASCADE)
        objects = ZooCacheManager()

    class Guest(models.Model):
        shop = models.ForeignKey(Shop, models.DB_SET_NULL, null=True)
        objects = ZooCacheManager()
    """
    body = """
    for delete in (
        lambda: Shop.objects.get(name="a").delete(),
        lambda: Shop.objects.filter(name="a").delete(),
        lambda: connection.cursor().execute("DELETE FROM newer_shop"),
    ):
        shop = Shop.objects.create(name="a")
        child = Child.objects.create(shop=shop)
        grandchild = Grandchild.objects.create(child=child)
        guest = Guest.objects.create(shop=shop)
        reads = [
            lambda: Child.cached.count(),
            lambda: Grandchild.cached.filter(pk=grandchild.pk).exists(),
            lambda: Guest.cached.get(pk=guest.pk).shop_id,
        ]
        assert check(reads, delete) == [0, False, None]
    """
    run_models(tmp_path, short_name, below, body)
