"""The documentation's promises, by their numbers. Other files test some of them in depth."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from conftest import empty
from django.core import serializers
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.core.paginator import Paginator
from django.db import IntegrityError, connections, models, transaction
from django.db.models import Count, F, Func, Q
from django.db.models.functions import Now
from django.http import Http404
from django.test import RequestFactory
from django.views.generic import DetailView, ListView
from shop import routing, stock
from shop.models import (
    Both,
    Brand,
    Category,
    Discount,
    First,
    Late,
    Leaf,
    Migrated,
    Parcel,
    Product,
    Quick,
    Slug,
    Soft,
    Store,
    Tag,
)
from shop.reads import CACHED, cached, outcome, plain, snapshot
from shop.writes import WRITES

import zoocache
from zoocache import add_deps, cacheable, invalidate
from zoocache.contrib.django import ZooCacheManager

Queries = Callable[..., Any]
Elsewhere = Callable[[Callable[[], Any]], Any]
IsCached = Callable[[Callable[[], Any]], bool]


def atomic(**options: Any) -> Any:
    return transaction.atomic(using=routing.active, **options)


def name_of(pk: int = 1) -> str:
    return Product.cached.get(pk=pk).name


def rename(name: str, pk: int = 1) -> None:
    product = Product.objects.get(pk=pk)
    product.name = name
    product.save()


# 1, 2: install and import


def test_1_the_extra_exists() -> None:
    from importlib.metadata import metadata

    assert "django" in metadata("zoocache").get_all("Provides-Extra", [])


FRESH = {
    "settings.py": """
        import os
        SECRET_KEY = "x"
        USE_TZ = True
        INSTALLED_APPS = ["shelf"]
        DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
        DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "fresh.sqlite3"}}
        ZOOCACHE = {"NAME": os.environ["SEGMENT"], "SIZE": "1MiB"}
    """,
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


def _python(folder: Path, *arguments: str, **environment: str) -> str:
    root = Path(zoocache.__file__).parents[1]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_2_the_quick_start_in_a_fresh_project(tmp_path: Path, segment_name: str) -> None:
    """Imports at the top of a models.py, checks clean, nothing in migrations, 1 query then 0."""
    for name, text in FRESH.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(textwrap.dedent(text))
    _python(tmp_path, "start.py", SEGMENT=segment_name[:40])
    zoocache.shm.unlink(segment_name[:40])


# 3, 6: managers


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


# 4, 5


def test_4_one_query_then_none(shop: Any, queries: Queries) -> None:
    expected = snapshot(list(Product.objects.filter(active=True)))
    for number in (1, 0, 0):
        with queries(number):
            assert snapshot(list(Product.cached.filter(active=True))) == expected


def test_4_another_worker_gets_the_hit(shop: Any, elsewhere: Elsewhere) -> None:
    list(Product.cached.filter(active=True))
    before = zoocache.stats()["hits"]
    elsewhere(lambda: list(Product.cached.filter(active=True)))
    assert zoocache.stats()["hits"] == before + 1


def test_5_querysets_stay_lazy(shop: Any, queries: Queries) -> None:
    with queries(0):
        queryset = (
            Product.cached.filter(active=True)
            .zoocache(ttl=5)
            .select_related("category")
            .prefetch_related("tags")
            .annotate(n=Count("tags"))
            .order_by("pk")[:3]
        )
    with queries(2):
        list(queryset)


# 9, 10, 11


def test_9_select_related(shop: Any, queries: Queries) -> None:
    def read() -> Any:
        return list(Product.cached.select_related("category", "store").filter(category_id=1))

    read()
    with queries(0):
        assert {product.category.name for product in read()} == {"a"}
        assert read()[0].store is None or read()[0].store.name
    Category.objects.filter(pk=1).update(name="z")
    assert {product.category.name for product in read()} == {"z"}
    store = Store.objects.get(pk=1)  # has no manager of ours
    store.name = "y"
    store.save()
    assert "y" in {product.store.name for product in read() if product.store}


def test_10_save_and_delete_leave_the_rest_alone(shop: Any, queries: Queries) -> None:
    reads = {pk: lambda pk=pk: Product.cached.filter(pk=pk).first() for pk in (1, 2, 3)}
    for read in reads.values():
        read()
    rename("x", 1)
    with queries(1):
        assert reads[1]().name == "x"
    with queries(0):
        reads[2]()
        reads[3]()


def _reads_of_products() -> dict[str, Callable[[], Any]]:
    return {
        "row 1": lambda: Product.cached.get(pk=1),
        "row 2": lambda: Product.cached.get(pk=2),
        "category 1": lambda: list(Product.cached.filter(category=1)),
        "category 2": lambda: list(Product.cached.filter(category_id=2)),
        "category 3": lambda: list(Product.cached.filter(category=3)),
        "active of 3": lambda: list(Product.cached.filter(category=3, active=True)),
        "all": lambda: list(Product.cached.all()),
        "range": lambda: list(Product.cached.filter(id__range=(2, 5))),
        "count": lambda: Product.cached.count(),
        "values": lambda: list(Product.cached.filter(pk__gt=5).values("name")),
        "categories": lambda: list(Category.cached.all()),
        "joined": lambda: list(Category.cached.filter(product__active=True)),
    }


def _dropped_by(tag: str, queries: Queries) -> set[str]:
    reads = _reads_of_products()
    for read in reads.values():
        read()
    invalidate(tag)
    dropped = set()
    for name, read in reads.items():
        with queries() as captured:
            read()
        dropped |= {name} if len(captured) else set()
    return dropped


UNKNOWN_ROWS = {"count", "values", "joined"}  # nobody knows which rows are in these


@pytest.mark.parametrize("tag", ["Product:1", "product:1", "shop.Product:1", "shop.product:1"])
def test_11_23_a_row(tag: str, shop: Any, queries: Queries) -> None:
    """Product 1 is in category 2."""
    assert _dropped_by(tag, queries) == {"row 1", "category 2", "all"} | UNKNOWN_ROWS


def test_12_a_row_of_a_range(shop: Any, queries: Queries, is_cached: IsCached) -> None:
    assert "range" in _dropped_by("Product:3", queries)
    assert "range" not in _dropped_by("Product:6", queries)
    read = _reads_of_products()["range"]
    assert is_cached(read)
    rename("enters", 5)
    assert "enters" in {product.name for product in read()}


def test_23_a_model(shop: Any, queries: Queries) -> None:
    assert _dropped_by("Product", queries) == set(_reads_of_products()) - {"categories"}
    assert _dropped_by("Category", queries) == {"categories", "joined"}
    assert _dropped_by("Nobody", queries) == set()
    assert _dropped_by("Store:1", queries) == set()


def test_23_a_foreign_key_with_its_empty_result(shop: Any, queries: Queries) -> None:
    assert _dropped_by("Product:category:3", queries) == {
        "category 3",
        "active of 3",
        *UNKNOWN_ROWS,
    }
    assert _dropped_by("Product:category_id:1", queries) == {"category 1", *UNKNOWN_ROWS}
    assert _dropped_by("Product:category", queries) >= {"category 1", "category 2", "category 3"}


@pytest.mark.parametrize(
    "key", ["a-b", "a:b", "me@example.org", "Ünï", "category", "%", "a%3Ab", "%3A", " ", "x" * 90]
)
def test_11_any_primary_key_is_legal_in_a_tag(key: str, sqlite: Any, queries: Queries) -> None:
    Slug.objects.create(pk=key)
    Slug.objects.create(pk=key + "x")

    def read(pk: str) -> Any:
        return list(Slug.cached.filter(pk=pk))

    for pk in (key, key + "x"):
        read(pk)
    invalidate(f"Slug:{key}")
    with queries(0):
        assert len(read(key + "x")) == 1
    with queries(1):
        assert len(read(key)) == 1


def test_11_uuids(shop: Any, queries: Queries) -> None:
    for text in (str(stock.PARCELS[0]), stock.PARCELS[0].hex, str(stock.PARCELS[0]).upper()):
        Parcel.cached.get(pk=stock.PARCELS[0])
        Parcel.cached.get(pk=stock.PARCELS[1])
        invalidate(f"Parcel:{text}")
        with queries(0):
            Parcel.cached.get(pk=stock.PARCELS[1])
        with queries(1):
            Parcel.cached.get(pk=stock.PARCELS[0])


# 14, 15, 16, 17, 18


def test_14_ttl(shop: Any, queries: Queries, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoocache import store

    queryset = Product.cached.filter(active=True).zoocache(ttl=60).exclude(pk=3).order_by("pk")
    assert Quick.cached.all().query.zoocache.ttl == 300
    list(queryset.all())
    with queries(0):
        list(queryset.all())
    target = store.cache()
    assert target is not None
    target.segment.shift_time(61)
    with queries(1):
        list(queryset.all())


def test_15_no_cache(shop: Any, queries: Queries) -> None:
    for manager in (Product.objects, Product.cached):
        for _ in range(2):
            with queries(1):
                list(manager.filter(active=True).no_cache())
            with queries(1):
                list(manager.no_cache().filter(active=True))


def test_16_the_pages_complex_query(shop: Any, queries: Queries) -> None:
    def read() -> Any:
        products = (
            Product.cached.filter(Q(category__in=[1, 2, 3]) | Q(price__lt=100), active=True)
            .select_related("category")
            .prefetch_related("tags")
        )
        return [
            (p.name, p.category and p.category.name, sorted(t.name for t in p.tags.all()))
            for p in products.order_by("pk")
        ]

    def uncached() -> Any:
        return [
            (p.name, p.category and p.category.name, sorted(t.name for t in p.tags.all()))
            for p in Product.objects.filter(
                Q(category__in=[1, 2, 3]) | Q(price__lt=100), active=True
            ).order_by("pk")
        ]

    writes: list[Callable[[], Any]] = [
        lambda: rename("x"),
        lambda: Category.objects.filter(pk=2).update(name="x"),
        lambda: Tag.objects.filter(pk=1).update(name="x"),
        lambda: Product.objects.get(pk=1).tags.set([2, 3]),
        lambda: Tag.objects.get(pk=2).product_set.clear(),
        lambda: Product.objects.get(pk=2).delete(),
    ]
    for write in writes:
        read()
        with queries(0):
            read()
        before = read()
        write()
        assert read() == uncached() != before


def test_17_the_pages_aggregation(shop: Any, queries: Queries) -> None:
    def read() -> dict[int, int]:
        categories = Category.cached.annotate(product_count=Count("product"))
        return {category.pk: category.product_count for category in categories}

    def uncached() -> dict[int, int]:
        return {c.pk: c.product_set.count() for c in Category.objects.all()}

    for write in (
        lambda: Product.objects.create(name="x", category_id=3),
        lambda: Product.objects.filter(category=1).first().delete(),
        lambda: Product.objects.filter(category=1).update(category=2),
    ):
        read()
        with queries(0):
            before = read()
        write()
        assert read() == uncached() != before


def test_18_raw_is_never_cached(shop: Any, queries: Queries) -> None:
    expected = Product.objects.filter(active=True).count()
    for manager in (Product.objects, Product.cached):
        for _ in range(2):
            with queries(1):
                products = manager.raw("SELECT * FROM shop_product WHERE active = %s", [True])
                assert len(list(products)) == expected


@pytest.mark.parametrize(
    "query",
    [
        lambda: Product.cached.filter(made__lt=Now()),
        lambda: Product.cached.annotate(t=Now()),
        lambda: Product.cached.order_by("?"),
        lambda: Product.cached.annotate(x=Func("name", function="UPPER")),
        lambda: Product.cached.extra(select={"x": "1"}),
        lambda: Product.cached.annotate(x=models.expressions.RawSQL("1", [])),
    ],
)
def test_20_what_is_not_deterministic_is_not_cached(
    query: Callable[[], Any], shop: Any, queries: Queries
) -> None:
    for _ in range(3):
        with queries(1):
            list(query())


def test_20_locks_are_taken(shop: Any, queries: Queries) -> None:
    for _ in range(2):
        with atomic(), queries() as captured:
            Product.cached.select_for_update().get(pk=1)
        assert any("shop_product" in query["sql"] for query in captured)


# 21: every write; test_matrix.py has each of them against each shape of read


@pytest.mark.parametrize("name", [name for name in WRITES if name != "nothing"])
def test_21_every_write(name: str, sqlite: Any, elsewhere: Elsewhere) -> None:
    """Fresh in this worker and in others."""
    stock.fill()
    shapes = ["all", "by category", "get", "prefetch many", "page's count", "child", "count"]
    for shape in shapes:
        outcome(CACHED[shape], cached)
    WRITES[name]()
    for shape in shapes:
        expected = outcome(CACHED[shape], plain)
        assert elsewhere(lambda shape=shape: outcome(CACHED[shape], cached)) == expected
        assert outcome(CACHED[shape], cached) == expected


def test_21_sql_that_a_field_runs_while_it_is_saved(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []  # Django 6.1 asks twice when it creates

    def pre_save(self: Any, instance: Any, add: bool) -> Any:
        calls.append(add)
        with connections[routing.active].cursor() as cursor:
            cursor.execute("UPDATE shop_category SET rank = rank + 1")
        return instance.name

    rank = Category.cached.get(pk=1).rank
    monkeypatch.setattr(type(Tag._meta.get_field("name")), "pre_save", pre_save)
    tag = Tag.objects.create(name="x")
    assert Category.cached.get(pk=1).rank == rank + len(calls) > rank
    calls.append(tag.save())
    assert Category.cached.get(pk=1).rank == rank + len(calls) - 1


def test_21_sql_that_an_execute_wrapper_runs(shop: Any) -> None:
    connection = connections[routing.active]
    busy = []

    def wrapper(execute: Any, *args: Any) -> Any:
        if not busy:
            busy.append(1)
            with connection.cursor() as cursor:
                cursor.execute("UPDATE shop_category SET rank = rank + 1")
            busy.clear()
        return execute(*args)

    rank = Category.cached.get(pk=1).rank
    with connection.execute_wrapper(wrapper):
        list(Tag.objects.all())
    assert Category.cached.get(pk=1).rank == rank + 1


def test_21_a_write_in_a_signal_handler(shop: Any) -> None:
    from django.db.models.signals import post_save, pre_save

    def handler(sender: Any, instance: Any, **kwargs: Any) -> None:
        Category.objects.update(rank=F("rank") + 1)

    for signal in (pre_save, post_save):
        rank = Category.cached.get(pk=1).rank
        signal.connect(handler, sender=Tag)
        try:
            Tag.objects.create(name="x")
        finally:
            signal.disconnect(handler, sender=Tag)
        assert Category.cached.get(pk=1).rank == rank + 1


def test_21_a_failed_write(shop: Any) -> None:
    name_of()
    for failing in (
        lambda: Product.objects.create(pk=1, name="x"),
        lambda: Brand.objects.filter(code="ACME").update(code="acme"),
    ):
        with pytest.raises(IntegrityError):
            failing()
    assert name_of() == "product 1"


# 22: commits


def test_22_before_commit_and_after(shop: Any, elsewhere: Elsewhere, queries: Queries) -> None:
    name_of()
    with atomic():
        rename("new")
        assert elsewhere(name_of) == "product 1"
        assert name_of() == "new"
        with queries(1):  # its own write is not for the cache
            assert name_of() == "new"
        assert elsewhere(name_of) == "product 1"
    assert elsewhere(name_of) == name_of() == "new"


def test_22_a_rollback_changes_nothing(shop: Any, elsewhere: Elsewhere, queries: Queries) -> None:
    name_of()
    with pytest.raises(LookupError), atomic():  # noqa: PT012
        rename("never")
        assert name_of() == "never"
        raise LookupError
    with queries(0):
        assert name_of() == "product 1"
    assert elsewhere(name_of) == "product 1"


def test_22_savepoints(shop: Any, elsewhere: Elsewhere) -> None:
    name_of(1), name_of(2)
    with atomic():
        rename("outer", 1)
        with pytest.raises(LookupError), atomic():  # noqa: PT012
            rename("inner", 2)
            assert name_of(2) == "inner"
            raise LookupError
        assert name_of(2) == "product 2"
        assert name_of(1) == "outer"
        assert elsewhere(lambda: (name_of(1), name_of(2))) == ("product 1", "product 2")
    assert elsewhere(lambda: (name_of(1), name_of(2))) == ("outer", "product 2")


def test_22_per_alias(sqlite: Any, queries: Queries) -> None:
    other = connections["other"]
    empty(other)
    Tag.objects.create(pk=1, name="here")
    Tag.objects.using("other").create(pk=1, name="there")
    try:
        with pytest.raises(LookupError), transaction.atomic(using="other"):  # noqa: PT012
            Tag.objects.using("other").update(name="never")
            assert Tag.cached.using("other").get(pk=1).name == "never"
            assert Tag.cached.get(pk=1).name == "here"
            with queries(0):
                assert Tag.cached.get(pk=1).name == "here"
            raise LookupError
        assert Tag.cached.using("other").get(pk=1).name == "there"
        with transaction.atomic(using="other"):
            Tag.objects.using("other").update(name="new")
        assert Tag.cached.using("other").get(pk=1).name == "new"
    finally:
        other.close()


def test_22_a_hook_that_raises_does_not_stop_it(shop: Any, elsewhere: Elsewhere) -> None:
    def fail() -> None:
        raise LookupError

    name_of()
    with pytest.raises(LookupError), atomic():  # noqa: PT012
        transaction.on_commit(fail, using=routing.active)
        rename("new")
    assert elsewhere(name_of) == name_of() == "new"


def test_22_a_hook_sees_fresh_rows(shop: Any) -> None:
    seen = []
    name_of()
    with atomic():
        transaction.on_commit(lambda: seen.append(name_of()), using=routing.active)
        rename("new")
    assert seen == ["new"]


def test_22_durable(shop: Any, elsewhere: Elsewhere) -> None:
    name_of()
    with atomic(durable=True):
        rename("new")
        assert elsewhere(name_of) == "product 1"
    assert elsewhere(name_of) == name_of() == "new"


def test_22_without_autocommit(shop: Any, elsewhere: Elsewhere) -> None:
    name_of()
    transaction.set_autocommit(False, using=routing.active)
    try:
        rename("new")
        assert elsewhere(name_of) == "product 1"
        transaction.commit(using=routing.active)
        assert elsewhere(name_of) == "new"
        rename("never")
        assert name_of() == "never"
        transaction.rollback(using=routing.active)
        assert name_of() == "new"
    finally:
        transaction.rollback(using=routing.active)
        transaction.set_autocommit(True, using=routing.active)
    assert elsewhere(name_of) == name_of() == "new"


def test_22_clean_tables_are_cached_in_a_transaction(shop: Any, queries: Queries) -> None:
    name_of()
    with atomic():
        Tag.objects.update(name="x")
        with queries(0):
            name_of()
        list(Category.cached.all())
        with queries(0):
            list(Category.cached.all())


def test_22_a_commit_that_fails(postgres: Any, elsewhere: Elsewhere) -> None:
    """A deferred constraint is checked at COMMIT."""
    stock.fill()
    read = CACHED["by category"]
    before = outcome(read, cached)
    with pytest.raises(IntegrityError), atomic():
        Product.objects.filter(pk=1).update(category=12345)
    assert outcome(read, cached) == before == elsewhere(lambda: outcome(read, cached))


# 24, 25


def test_24_invalidate_from_another_process(
    sqlite: Any, tmp_path: Path, queries: Queries, is_cached: IsCached
) -> None:
    from zoocache import config

    stock.fill()
    name = config.resolve().name
    here = Path(__file__).parent
    script = tmp_path / "shell.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys
            sys.path.insert(0, {str(here)!r})
            import settings
            from django.conf import settings as django_settings
            names = (name for name in dir(settings) if name.isupper())
            values = {{name: getattr(settings, name) for name in names}}
            django_settings.configure(**values, ZOOCACHE={{"NAME": {name!r}}})
            import django
            django.setup()
            import shutil
            shutil.rmtree(settings.FOLDER)
            from zoocache import invalidate
            invalidate(*sys.argv[1:])
            """
        )
    )
    reads = [
        lambda: Product.cached.get(pk=1),
        lambda: Product.cached.get(pk=2),
        lambda: list(Product.cached.filter(category=3)),
    ]

    @cacheable(deps=["Product:list"])
    def free() -> list[str]:
        return [product.name for product in Product.objects.all()]

    for read in (*reads, free):
        assert is_cached(read)
    _python(tmp_path, str(script), "Product:1", "Product:list")
    for read, number in zip((*reads, free), (1, 0, 0, 1), strict=True):
        with queries(number):
            read()
    _python(tmp_path, str(script), "shop.Product:category:3")
    for read, number in zip((*reads, free), (0, 0, 1), strict=False):
        with queries(number):
            read()


def test_25_a_free_tag_need_not_be_declared() -> None:
    invalidate("Product:list", "whatever", "a:b:c", "ünï:☃")
    for wrong in ("", ":", "a:", ":a", "a::b", "a\0b"):
        with pytest.raises(zoocache.TagError):
            invalidate(wrong)


# 31, 32: views


class ProductList(ListView):
    model = Product
    paginate_by = 3
    ordering = "-pk"

    def get_queryset(self) -> Any:
        return Product.cached.filter(active=True).order_by(self.ordering)


class EmptyList(ListView):
    allow_empty = False

    def get_queryset(self) -> Any:
        return Product.cached.filter(name=self.kwargs["name"])


class ProductDetail(DetailView):
    model = Product

    def get_object(self, queryset: Any = None) -> Any:
        return Product.cached.get(pk=self.kwargs["pk"])


def _view(view: Any, query: str = "", **kwargs: Any) -> Any:
    return view.as_view()(RequestFactory().get(f"/?{query}"), **kwargs).context_data


def test_31_list_views(shop: Any, queries: Queries) -> None:
    expected = [p.pk for p in Product.objects.filter(active=True).order_by("-pk")]
    for number in (2, 0):
        with queries(number):
            first = _view(ProductList)
            assert [p.pk for p in first["object_list"]] == expected[:3]
    assert [p.pk for p in _view(ProductList, "page=2")["object_list"]] == expected[3:6]
    assert first["paginator"].count == len(expected)
    with pytest.raises(Http404):
        _view(ProductList, "page=99")
    with pytest.raises(Http404):
        _view(EmptyList, name="nobody")
    Product.objects.create(name="nobody")
    assert len(_view(EmptyList, name="nobody")["object_list"]) == 1


def test_31_pagination(shop: Any, queries: Queries) -> None:
    paginator = Paginator(Product.cached.order_by("pk"), 4)
    pages = [[p.pk for p in page] for page in paginator]
    with queries(0):
        again = Paginator(Product.cached.order_by("pk"), 4)
        assert [[p.pk for p in page] for page in again] == pages
    keys = Product.objects.order_by("pk").values_list("pk", flat=True)
    assert [pk for page in pages for pk in page] == list(keys)


def test_32_detail_views(shop: Any, queries: Queries) -> None:
    for number in (1, 0):
        with queries(number):
            assert _view(ProductDetail, pk=1)["object"].name == "product 1"
    for _ in range(2):
        with pytest.raises(Product.DoesNotExist):
            _view(ProductDetail, pk=999)
        with pytest.raises(Product.MultipleObjectsReturned):
            Product.cached.get(active=True)


@pytest.mark.parametrize(
    "insert",
    [
        lambda: Product.objects.create(pk=11, name="x"),
        lambda: Product.objects.create(name="x"),
        lambda: Product.objects.bulk_create([Product(name="x")]),
        lambda: _insert_raw(),
    ],
)
def test_32_an_absent_row_shows_when_it_is_inserted(
    insert: Callable[[], Any], shop: Any, queries: Queries
) -> None:
    for _ in range(2):
        with pytest.raises(Product.DoesNotExist):
            Product.cached.get(pk=11)
    assert 11 not in Product.cached.in_bulk([1, 11])
    insert()
    assert Product.cached.get(pk=11).name == "x"
    assert 11 in Product.cached.in_bulk([1, 11])


def _insert_raw() -> None:
    columns = "name, price, active, data"
    with connections[routing.active].cursor() as cursor:
        cursor.execute(f"INSERT INTO shop_product ({columns}) VALUES ('x', 1, true, '{{}}')")


# 34


def test_34_a_read_that_follows_a_write_never_sees_the_value_before_it(
    shop: Any, elsewhere: Elsewhere
) -> None:
    """Causal consistency, in any worker."""
    for number in range(10):
        writer, reader = (elsewhere, lambda work: work()) if number % 2 else (
            lambda work: work(), elsewhere,
        )  # fmt: skip
        writer(lambda number=number: rename(f"name {number}"))
        assert reader(name_of) == f"name {number}"
        assert writer(name_of) == f"name {number}"


# 35: functions over the ORM


@pytest.fixture
def calls() -> list[Any]:
    return []


def test_35_functions_over_cached_querysets_inherit_their_dependencies(
    shop: Any, calls: list[Any], is_cached: IsCached
) -> None:
    @cacheable()
    def inner(category: int) -> list[str]:
        calls.append(category)
        return [product.name for product in Product.cached.filter(category=category)]

    @cacheable()
    def outer() -> list[list[str]]:
        calls.append("outer")
        return [inner(1), inner(2)]

    outer()
    outer()
    assert calls == ["outer", 1, 2]
    Product.objects.filter(pk=2).update(name="not in them")
    calls.clear()
    outer()
    rename("x", 1)  # in category 2
    calls.clear()
    assert "x" in outer()[1]
    assert calls == ["outer", 2]


def test_35_a_hit_of_a_queryset_hands_its_dependencies_on(shop: Any) -> None:
    name_of()

    @cacheable()
    def name() -> str:
        return name_of()  # a hit

    assert name() == "product 1"
    rename("x")
    assert name() == "x"


def test_35_async_functions(shop: Any, calls: list[Any]) -> None:
    @cacheable(deps=lambda pk: [f"Product:{pk}"])
    async def name(pk: int) -> str:
        calls.append(pk)
        return (await Product.cached.aget(pk=pk)).name

    assert async_to_sync(name)(1) == async_to_sync(name)(1) == "product 1"
    assert calls == [1]
    rename("x", 2)
    assert async_to_sync(name)(1) == "product 1"
    assert calls == [1]
    rename("x")
    assert async_to_sync(name)(1) == "x"


def test_35_a_function_that_depends_on_a_row(shop: Any, calls: list[Any]) -> None:
    @cacheable(deps=["Product:1"])
    def name() -> str:
        calls.append(1)
        return Product.objects.get(pk=1).name

    name(), rename("other", 2), name()
    assert calls == [1]
    rename("x")
    assert name() == "x"
    Product.objects.filter(pk=1).update(name="y")
    assert name() == "y"
    with connections[routing.active].cursor() as cursor:
        cursor.execute("UPDATE shop_product SET name = 'z'")
    assert name() == "z"


@pytest.mark.parametrize("tag", ["Book:9", "Book", "shop.book:9"])
def test_35_a_function_that_depends_on_a_multi_table_child(tag: str, shop: Any) -> None:
    from shop.models import Book

    @cacheable(deps=[tag])
    def name() -> str:
        return Book.objects.get(pk=9).name

    assert name() == "book 1"
    Product.objects.filter(pk=9).update(name="x")
    assert name() == "x"


def test_35_add_deps(shop: Any, calls: list[Any]) -> None:
    @cacheable()
    def name(pk: int) -> str:
        calls.append(pk)
        add_deps([f"Product:{pk}", "shelf"])
        return Product.objects.get(pk=pk).name

    name(1), name(2), name(1)
    assert calls == [1, 2]
    rename("x")
    assert name(1) == "x"
    name(2)
    assert calls == [1, 2, 1]
    invalidate("shelf")
    name(2)
    assert calls == [1, 2, 1, 2]


def test_35_key_and_none(shop: Any, calls: list[Any]) -> None:
    @cacheable(key=lambda product: product.pk, deps=lambda product: [f"Product:{product.pk}"])
    def stock_of(product: Product) -> int | None:
        calls.append(product.pk)
        return product.stock

    product = Product.objects.get(pk=4)
    assert stock_of(product) is None
    assert stock_of(product) is None
    assert calls == [4]


@pytest.mark.parametrize(
    "query",
    [
        lambda: list(Product.cached.filter(made__lt=Now())),
        lambda: list(Product.cached.iterator()),
        lambda: list(Product.cached.annotate(x=Func("name", function="UPPER"))),
        lambda: list(Product.cached.extra(where=["1 = 1"])),
    ],
)
def test_35_a_cached_queryset_of_unknown_dependencies_keeps_the_function_uncached(
    query: Callable[[], Any], shop: Any, calls: list[Any]
) -> None:
    @cacheable()
    def names() -> list[str]:
        calls.append(1)
        return [product.name for product in query()]

    @cacheable()
    def outer() -> list[str]:
        return names()

    outer()
    Product.objects.update(name="x")
    assert set(outer()) == set(names()) == {"x"}
    assert len(calls) == 3


def test_35_a_marked_queryset_read_under_a_pin_keeps_the_function_uncached(sqlite: Any) -> None:
    stock.fill()

    @cacheable()
    def name() -> str:
        rows = Tag.objects.iterator(chunk_size=1)
        next(rows)
        found = name_of()
        rows.close()
        return found

    name()
    rename("x")
    assert name() == "x"


def test_36_an_unstorable_result_is_returned_and_logged_once(
    sqlite: Any, caplog: pytest.LogCaptureFixture
) -> None:
    stock.fill()

    @cacheable()
    def product() -> Product:
        return Product.cached.get(pk=1)

    with caplog.at_level(logging.ERROR, "zoocache"):
        for _ in range(3):
            assert product().pk == 1
    assert len([r for r in caplog.records if "test_36" in r.getMessage()]) == 1


def test_36_types_survive_a_function(shop: Any) -> None:
    fields = ["price", "made", "day", "data"]

    @cacheable()
    def rows() -> Any:
        return list(Product.cached.order_by("pk").values_list(*fields))

    expected = snapshot(list(Product.objects.order_by("pk").values_list(*fields)))
    assert snapshot(rows()) == expected
    assert snapshot(rows()) == expected
    assert type(rows()[0][0]) is Decimal


@pytest.fixture(autouse=True)
def _no_leftovers() -> Iterator[None]:
    yield
    assert routing.active == "default"
