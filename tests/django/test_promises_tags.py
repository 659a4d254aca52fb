"""Promises 11, 12 and 23 to 25: tags, and invalidation by hand."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fresh import run_python
from shop import stock
from shop.models import Category, Parcel, Product, Slug
from shop.stock import rename

import zoocache
from zoocache import cacheable, invalidate

Queries = Callable[..., Any]
IsCached = Callable[[Callable[[], Any]], bool]


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
    run_python(tmp_path, str(script), "Product:1", "Product:list")
    for read, number in zip((*reads, free), (1, 0, 0, 1), strict=True):
        with queries(number):
            read()
    run_python(tmp_path, str(script), "shop.Product:category:3")
    for read, number in zip((*reads, free), (0, 0, 1), strict=False):
        with queries(number):
            read()


def test_25_a_free_tag_need_not_be_declared() -> None:
    invalidate("Product:list", "whatever", "a:b:c", "ünï:☃")
    for wrong in ("", ":", "a:", ":a", "a::b", "a\0b"):
        with pytest.raises(zoocache.TagError):
            invalidate(wrong)
