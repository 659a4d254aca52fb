"""Rules of the design that no other test would miss; docs/design/acceptance.md has them all."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import Worker
from django.db import models
from django.test.utils import isolate_apps
from fresh import run_models
from shop.routing import atomic
from shop.stock import name_of

from zoocache.contrib.django import ZooCacheManager, checks
from zoocache.shm.flight import Flight


class Waited(Exception):
    pass


def test_inside_a_transaction_nobody_waits_for_a_fill(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever fills may need a lock that the transaction holds, and no database would know."""

    def wait(self: Flight, seconds: float) -> None:
        raise Waited

    filler = Worker(name_of, pause_at="fill:read")
    with monkeypatch.context() as patch:
        patch.setattr(Flight, "wait", wait)
        with pytest.raises(Waited):
            name_of()
        with atomic():
            assert name_of() == "product 1"
    assert filler.result() == "product 1"


def test_a_text_that_the_database_takes_for_another_is_no_key(
    tmp_path: Any, short_name: str
) -> None:
    """Reader and writer may spell one row's key in two ways: rows are narrowed to none of them."""
    run_models(
        tmp_path,
        short_name,
        """
        class Code(models.Model):
            code = models.CharField(max_length=20, primary_key=True, db_collation="NOCASE")
            name = models.CharField(max_length=20)
            objects = ZooCacheManager()

        class Use(models.Model):
            code = models.ForeignKey(Code, models.CASCADE, db_constraint=False)
            objects = ZooCacheManager()
        """,
        """
        Code.objects.create(code="abc", name="old")
        Use.objects.create(code_id="abc")
        get = lambda: Code.cached.get(pk="ABC").name
        some = lambda: list(Code.cached.filter(pk__in=["Abc"]).values_list("name"))
        uses = lambda: Use.cached.filter(code="ABC").count()
        joined = Use.cached.select_related("code").filter(code="aBC")
        related = lambda: [use.code.name for use in joined.all()]
        check([get, some, related], lambda: Code.objects.filter(pk="abc").update(name="new"))

        def save():
            Code(code="aBc", name="saved").save(force_update=True)

        check([get, some, related], save)
        check([uses], lambda: Use.objects.create(code_id="aBC"))
        check([uses], lambda: Use.objects.filter(code="abc").delete())
        """,
    )


@isolate_apps("shop")
def test_a_name_that_hides_the_cached_manager_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sound(models.Model):
        objects = ZooCacheManager()

        class Meta:
            app_label = "shop"

    class Hiding(models.Model):
        cached = models.BooleanField()
        objects = ZooCacheManager()

        class Meta:
            app_label = "shop"

    monkeypatch.setattr(checks.apps, "get_models", lambda: [Sound, Hiding])
    (message,) = checks.check_managers()
    assert (message.id, message.obj) == ("zoocache.W001", Hiding)
