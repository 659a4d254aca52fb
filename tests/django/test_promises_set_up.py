"""Promises 1 to 3 and 6: installing it, importing it, its managers."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core import serializers
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import models
from fresh import SETTINGS, run_python, write_files
from shop.models import (
    Both,
    Discount,
    First,
    Late,
    Leaf,
    Migrated,
    Parcel,
    Product,
    Quick,
    Soft,
    Store,
)

import zoocache
from zoocache.contrib.django import ZooCacheManager

Queries = Callable[..., Any]
Elsewhere = Callable[[Callable[[], Any]], Any]
IsCached = Callable[[Callable[[], Any]], bool]


def test_each_promise_has_a_test_of_its_number() -> None:
    names = [
        match[0]
        for file in Path(__file__).parent.glob("test_*.py")
        for match in re.findall(r"^def test_((\d+_)+)", file.read_text(), re.MULTILINE)
    ]
    tested = {int(number) for name in names for number in name.strip("_").split("_")}
    assert tested == set(range(1, 37))


def test_1_the_extra_exists() -> None:
    from importlib.metadata import metadata

    assert "django" in metadata("zoocache").get_all("Provides-Extra", [])


FRESH = {
    "settings.py": SETTINGS,
    "shelf/__init__.py": "",
    # As on the page.
    "shelf/models.py": """
        from django.db import models
        from zoocache.contrib.django import ZooCacheManager

        class Product(models.Model):
            name = models.CharField(max_length=255)
            price = models.DecimalField(max_digits=10, decimal_places=2)
            active = models.BooleanField(default=True)

            # Replace default objects manager with ZooCacheManager
            objects = ZooCacheManager()
    """,
    "start.py": """
        import os
        os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
        import django
        django.setup()
        from django.core.management import call_command
        from django.db import connection
        from django.test.utils import CaptureQueriesContext
        from shelf.models import Product

        call_command("check")
        call_command("makemigrations", "shelf", verbosity=0)
        call_command("makemigrations", "--check", "--dry-run", verbosity=0)
        call_command("migrate", verbosity=0)
        written = open("shelf/migrations/0001_initial.py").read()
        assert "zoocache" not in written and "managers" not in written, written
        Product.objects.create(name="a", price="1.50")
        for expected in (1, 0):
            with CaptureQueriesContext(connection) as captured:
                products = Product.cached.filter(active=True)
                assert [(p.name, str(p.price)) for p in products] == [("a", "1.50")]
            assert len(captured) == expected
        product = Product.objects.get(id=1)
        product.name = "New Name"
        product.save()  # Automatically invalidates Product.cached.filter(id=1)
        assert Product.cached.filter(active=True)[0].name == "New Name"
    """,
}


def test_2_the_quick_start_in_a_fresh_project(tmp_path: Path, short_name: str) -> None:
    """Imports at the top of a models.py, checks clean, nothing in migrations, 1 query then 0."""
    write_files(tmp_path, FRESH)
    run_python(tmp_path, "start.py", ZOOCACHE_NAME=short_name, ZOOCACHE_SIZE="1MiB")


def test_3_objects_alone_gives_cached() -> None:
    for model in (Product, Discount, Leaf, Parcel, Soft, Both, Migrated):
        assert isinstance(model.objects, ZooCacheManager)
        assert isinstance(model.cached, ZooCacheManager)
        assert model.cached.model is model
        assert model.cached.all().model is model
    assert not hasattr(Store, "cached")


def test_6_objects_never_caches(shop: Any, queries: Queries) -> None:
    for _ in range(2):
        with queries(3):
            list(Product.objects.filter(active=True))
            Product.objects.get(pk=1)
            Product.objects.count()


@pytest.mark.parametrize(
    "model", [Product, Discount, Leaf, Parcel, Soft, Quick, First, Late, Migrated, Both]
)
def test_6_cached_is_never_the_default_manager(model: Any) -> None:
    for manager in (model._default_manager, model._base_manager, model._meta.default_manager):
        assert not getattr(manager, "_caching", False)
    assert model._default_manager.name == "objects"
    assert model.cached._caching


def test_6_a_model_that_declares_only_cached(sqlite: Any, queries: Queries) -> None:
    Quick.objects.create(name="a")
    assert type(Quick.objects) is models.Manager
    assert Quick.cached.ttl == 300
    for expected in (1, 0):
        with queries(expected):
            assert Quick.cached.get(name="a").pk == 1
    for _ in range(2):
        with queries(1):
            Quick.objects.get(name="a")


def test_6_validation_dumpdata_and_refresh_read_the_database(
    sqlite: Any, queries: Queries, elsewhere: Elsewhere, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = Quick.objects.create(name="a")
    list(Quick.cached.filter(name="b"))
    Quick.objects.create(name="b")
    quick.name = "b"
    with pytest.raises(ValidationError):
        quick.full_clean()
    for _ in range(2):
        with queries(1):
            quick.refresh_from_db()
    call_command("dumpdata", "shop.Quick")
    assert capsys.readouterr().out.count('"name"') == 2
    assert len(serializers.serialize("json", Quick.cached.all())) > 2


def test_6_the_users_own_queryset_goes_first(sqlite: Any, is_cached: IsCached) -> None:
    """delete() of SoftQuerySet keeps the rows."""
    Soft.objects.create(name="a")
    assert is_cached(lambda: list(Soft.cached.here()))
    assert Soft.cached.filter(name="a").delete() == 1
    assert list(Soft.cached.here()) == []
    Soft.objects.filter(name="a").delete()
    assert Soft.objects.count() == 1


def test_3_managers_are_the_users_to_extend(queries: Queries) -> None:
    class Mine(ZooCacheManager):
        def get_queryset(self) -> Any:
            return super().get_queryset().filter(active=True)

    assert Mine(ttl=5).ttl == 5
    for wrong in (0, -1):
        with pytest.raises(zoocache.ConfigError):
            ZooCacheManager(ttl=wrong)
        with pytest.raises(zoocache.ConfigError):
            Product.cached.all().zoocache(ttl=wrong)
