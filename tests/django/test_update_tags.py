"""What the extension makes of an update is what Python makes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from django.db.models import F
from shop.models import Book, Brand, Category, Detail, Discount, Parcel, Product, Store

from zoocache.contrib.django import writing

Work = Callable[[], object]


def _save(model: Any, pk: Any, **changed: Any) -> None:
    row = model.objects.get(pk=pk)
    for name, value in changed.items():
        setattr(row, name, value)
    row.save()


def _update(model: Any, pk: Any, **changed: Any) -> None:
    model.objects.filter(pk=pk).update(**changed)


@pytest.fixture
def made(db: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[Work], list[bool]]:
    """Of each update in some work, whether the extension made its tags: those of Python's."""
    uncommon = Parcel.objects.create(pk="6b0f0f3a-0d0b-4d0f-8f0a-0123456789ab")
    Parcel.objects.create(pk="6b0f0f3a-0d0b-4d0f-8f0a-0123456789ac", inner=uncommon)
    Category.objects.create(pk=1, name="c")
    Store.objects.create(pk=2, name="s")
    Brand.objects.create(code="b")
    Product.objects.create(pk=3, category_id=1, store_id=2)
    Product.objects.create(pk=4, category_id=1, brand_id="b", related_id=3)
    Book.objects.create(pk=5, category_id=1, shelf_id=2)
    Detail.objects.create(pk=6, product_id=3)
    quick: list[bool] = []
    original, keys_of = writing.written_by, writing._keys

    def written_by(compiler: Any) -> Any:
        found = original(compiler)
        if isinstance(compiler, writing.SQLUpdateCompiler):
            keys = keys_of(compiler.query.model._meta)
            told = None if keys.update is None else keys.update.tags(compiler.query)
            alone = dataclasses.replace(keys, update=None)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(writing, "_keys", lambda meta: alone)
                assert original(compiler)[:2] == found[:2]
            quick.append(told is not None)
        return found

    monkeypatch.setattr(writing, "written_by", written_by)

    def of(work: Work) -> list[bool]:
        quick.clear()
        work()
        return quick

    return of


@pytest.mark.parametrize(
    ("work", "quick"),
    [
        (lambda: _save(Category, 1, name="new"), [True]),
        (lambda: _save(Product, 3, name="new", category_id=None), [True]),
        (lambda: _save(Product, 4, name="new"), [False]),  # its brand is named by a text
        (lambda: _save(Discount, 3, name="new"), [True]),
        (lambda: _save(Detail, 6, text="new"), [True]),
        (lambda: _save(Book, 5, name="new", author="new"), [True, False]),  # two aliases
        (lambda: _save(Parcel, "6b0f0f3a-0d0b-4d0f-8f0a-0123456789ac", label="new"), [False]),
        (lambda: Product(pk=3, name="new").save(update_fields=["name"]), [True]),
        (lambda: Product(pk=3, category_id=1).save(update_fields=["category"]), [True]),
        (lambda: _update(Product, 3, name="new", store=2), [True]),
        (lambda: _update(Product, 3, store=Store(pk=2)), [False]),
        (lambda: _update(Product, 3, category=F("category")), [False]),
        (lambda: _update(Product, 3, name=F("name")), [True]),
        (lambda: Product.objects.filter(pk=4).update(id=7), [False]),
        (lambda: _update(Product, 3), [False]),
        (lambda: _update(Category, "1", name="new"), [True]),
        (lambda: Product.objects.filter(pk=F("category")).update(name="new"), [False]),
        (lambda: Product.objects.filter(pk__in=[3, 4]).update(name="new"), [False]),
        (lambda: Product.objects.filter(pk=3, name="").update(name="new"), [False]),
        (lambda: Product.objects.exclude(pk=3).update(name="new"), [False]),
        (lambda: Product.objects.filter(category_id=1).update(name="new"), [False]),
        (lambda: Product.objects.update(name="new"), [False]),
        (lambda: Detail.objects.filter(product_id=3).update(text="new"), [False]),
        (lambda: Book.objects.filter(pk=5).update(name="new", author="new"), None),
        (lambda: Product.objects.filter(category__name="c").update(name="new"), None),
        (lambda: Product.objects.bulk_update([Product(pk=3, store_id=2)], ["store"]), None),
    ],
)
def test_an_update(made: Any, work: Work, quick: list[bool] | None) -> None:
    found = made(work)
    assert found
    assert quick in (None, found)
