"""One contender: a Django project of its own with one way of caching, asked over its stdin.

    python bench/django/peer.py NAME DATABASE FOLDER REDIS_SOCKET

Caches for the ORM patch Django as a whole, so each has a process of its own.
Asked `[shape, count]`, it answers with the nanoseconds of one operation; asked
`["precision"]`, with how many cached reads a save() threw away.
"""

from __future__ import annotations

import functools
import gc
import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

NAME, DATABASE, FOLDER, REDIS = sys.argv[1:5]
CATEGORIES = {10: 1, 40: 2, 100: 3}  # rows in them, and their keys
SMALL = 12  # categories of ten rows each, for what one save() throws away

SETTINGS: dict[str, Any] = {
    "INSTALLED_APPS": ["django.contrib.contenttypes", "shop"],
    "SHOP_MANAGER": "django.db.models.Manager",
    "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
    "USE_TZ": True,
    "SECRET_KEY": "none",
}
if DATABASE == "sqlite":
    SETTINGS["DATABASES"] = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": f"{FOLDER}/{NAME.replace(' ', '-')}.sqlite3",
        }
    }
else:
    SETTINGS["DATABASES"] = {
        "default": {"ENGINE": "django.db.backends.postgresql", **json.loads(DATABASE)}
    }
if NAME.startswith("zoocache"):
    SETTINGS["INSTALLED_APPS"].append("zoocache.contrib.django")
    SETTINGS["SHOP_MANAGER"] = "zoocache.contrib.django.ZooCacheManager"
    local = 0 if "shared" in NAME else "16MiB"
    SETTINGS["ZOOCACHE"] = {
        "NAME": f"bench-{os.getppid()}-{os.getpid()}",
        "SIZE": "32MiB",
        "LOCAL": local,
    }
elif NAME == "django-cacheops":
    SETTINGS["INSTALLED_APPS"].append("cacheops")
    SETTINGS["CACHEOPS_REDIS"] = f"unix://{REDIS}?db=1"
    SETTINGS["CACHEOPS"] = {"shop.*": {"ops": "all", "timeout": 3600}}
elif NAME.startswith("django-cachalot"):
    SETTINGS["INSTALLED_APPS"].append("cachalot")
    if "LocMem" in NAME:
        backend = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    else:
        backend = {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": f"unix://{REDIS}?db=2",
        }
    SETTINGS["CACHES"] = {"default": backend}

import django  # noqa: E402
from django.conf import settings  # noqa: E402

settings.configure(**SETTINGS)
django.setup()

from django.db import connection, models  # noqa: E402
from django.db.models.base import ModelState  # noqa: E402
from django.test.utils import CaptureQueriesContext  # noqa: E402
from shop.models import Category, Product  # noqa: E402


def fill() -> None:
    with connection.schema_editor() as editor:
        editor.create_model(Category)
        editor.create_model(Product)
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA synchronous = OFF")
    sizes = [*CATEGORIES, *[10] * SMALL]
    Category.objects.bulk_create(Category(name=f"category {n}") for n in range(len(sizes)))
    for category, size in zip(Category.objects.order_by("pk"), sizes, strict=True):
        Product.objects.bulk_create(
            Product(name=f"product {n}", price=f"{n}.50", stock=n, category=category)
            for n in range(size)
        )


def cached(model: Any) -> Any:
    return model.cached if NAME.startswith("zoocache") else model.objects


def shapes() -> dict[str, Callable[[], Any]]:
    products, categories = cached(Product), cached(Category)
    keys = itertools.cycle(range(1, 101))
    saved = Product.objects.get(pk=150)
    forty = CATEGORIES[40]
    found: dict[str, Callable[[], Any]] = {
        "get": lambda: cached(Product).get(pk=next(keys)),
        **{
            f"{rows} rows": functools.partial(
                lambda key: list(cached(Product).filter(category=key)), key
            )
            for rows, key in CATEGORIES.items()
        },
        "count": lambda: products.filter(category=forty).count(),
        "exists": lambda: products.filter(category=forty).exists(),
        "first": lambda: products.filter(category=forty).first(),
        "latest": lambda: products.filter(category=forty).latest("stock"),
        "aggregate": lambda: products.filter(category=forty).aggregate(models.Sum("stock")),
        "select_related": lambda: list(products.select_related("category").filter(category=forty)),
        "values_list": lambda: list(products.filter(category=forty).values_list("id", "name")),
        "prefetch_related": lambda: [
            list(category.product_set.all())
            for category in categories.prefetch_related("product_set").filter(pk__in=[1, 2])
        ],
        "annotate": lambda: list(
            categories.annotate(products=models.Count("product")).filter(pk__lte=10)
        ),
        "save": saved.save,
    }
    if NAME == "zoocache":
        found |= floors()
    return found


def floors() -> dict[str, Callable[[], Any]]:
    """The least that it takes to make what a query returns, and functions."""
    import msgpack

    from zoocache import cacheable

    columns = ("id", "name", "price", "active", "stock", "made", "category_id")
    rows = {
        n: list(Product.objects.filter(category=key).values_list(*columns))
        for n, key in CATEGORIES.items()
    }
    plain = msgpack.packb([[str(value) for value in row] for row in rows[40]])
    new = object.__new__

    def filled(n: int) -> list[Product]:
        made = []
        for key, name, price, active, stock, when, category in rows[n]:
            product, state = new(Product), new(ModelState)
            state.adding = False
            state.db = "default"
            inside = product.__dict__
            inside["_state"] = state
            inside["id"] = key
            inside["name"] = name
            inside["price"] = price
            inside["active"] = active
            inside["stock"] = stock
            inside["made"] = when
            inside["category_id"] = category
            made.append(product)
        return made

    def function(number: int) -> tuple[str, int]:
        return ("result", number)

    remembered = functools.lru_cache(function)
    kept = cacheable()(function)
    return {
        **{f"floor: {n} rows": functools.partial(filled, n) for n in CATEGORIES},
        "floor: 40 rows by from_db": lambda: [
            Product.from_db("default", columns, row) for row in rows[40]
        ],
        "floor: Model.cached": lambda: Product.cached,
        "floor: msgpack of 40 rows": lambda: msgpack.unpackb(plain),
        "lru_cache": lambda: remembered(1),
        "@cacheable": lambda: kept(1),
    }


def precision() -> dict[str, int]:
    """Of 100 cached gets and of 10 cached lists, how many one save() throws away."""
    gets = [functools.partial(cached(Product).get, pk=pk) for pk in range(1, 101)]
    first = len(CATEGORIES) + 1
    lists = [
        functools.partial(lambda key: list(cached(Product).filter(category=key)), key)
        for key in range(first, first + 10)
    ]

    def queries(reads: list[Callable[[], Any]]) -> int:
        with CaptureQueriesContext(connection) as captured:
            for read in reads:
                read()
        return len(captured)

    for _ in range(3):
        queries(gets + lists)
    with CaptureQueriesContext(connection) as captured:
        Product.objects.get(pk=1).save()
    statements = len(captured) - 1
    lost = queries(gets)
    queries(lists)
    Product.objects.filter(category=first).first().save()
    return {"of 100 gets": lost, "of 10 lists": queries(lists), "statements of a save": statements}


def main() -> None:
    fill()
    known = shapes()
    gc.disable()  # a collection would be charged to whoever happens to run
    print(json.dumps(sorted(known, key=list(known).index)), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if asked == ["precision"]:
            print(json.dumps(precision()), flush=True)
            continue
        shape, count = asked
        run = known[shape]
        if shape != "save":
            # Filled, found, and kept in the process; gets go through a hundred keys.
            for _ in range(300 if shape == "get" else 3):
                run()
        started = time.perf_counter_ns()
        for _ in range(count):
            run()
        taken = (time.perf_counter_ns() - started) / count
        gc.collect(0)
        print(json.dumps(taken), flush=True)
    if NAME.startswith("zoocache"):
        from zoocache.shm import unlink

        unlink(SETTINGS["ZOOCACHE"]["NAME"])


main()
