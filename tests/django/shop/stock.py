"""A small stock of rows that has NULLs, shared and missing relations, and every type."""

from __future__ import annotations

import datetime
import uuid
from decimal import Decimal

from shop.fields import Money
from shop.models import (
    Book,
    Both,
    Brand,
    Category,
    Detail,
    Leaf,
    Left,
    Parcel,
    Payment,
    Product,
    Quick,
    Slug,
    Soft,
    Store,
    Tag,
)

UTC = datetime.timezone.utc
PARCELS = [uuid.UUID(int=number << 64 | 7) for number in range(1, 4)]


def fill() -> None:
    stores = [Store.objects.create(name=name) for name in ("north", "south")]
    roots = [Category.objects.create(name=name, rank=rank) for rank, name in enumerate("abc")]
    below = Category.objects.create(name="below a", parent=roots[0], rank=7)
    tags = [Tag.objects.create(name=name) for name in ("new", "red", "Émile")]
    brands = [Brand.objects.create(code=code, name=code.lower()) for code in ("ACME", "acme")]
    made = datetime.datetime(2024, 2, 29, 23, 59, 59, 123456, tzinfo=UTC)
    products = []
    for number in range(1, 9):
        product = Product.objects.create(
            name=f"product {number}",
            price=Decimal("0.10") * number,
            active=number % 3 != 0,
            stock=None if number % 4 == 0 else number * 10,
            category=[*roots[:2], below, None][number % 4],
            store=stores[number % 2] if number < 6 else None,
            brand=brands[number % 2] if number % 3 else None,
            related=products[0] if number in (3, 4) else None,
            data={"n": number, "list": [1, None, {"deep": "ü"}]} if number % 2 else {},
            made=made + datetime.timedelta(hours=7 * number) if number != 5 else None,
            day=datetime.date(2024, 1, number) if number != 6 else None,
        )
        product.tags.add(*tags[: number % 4])
        products.append(product)
    Detail.objects.create(
        product=products[0],
        text="long\x00text"[:4],
        weight=0.1,
        length=datetime.timedelta(days=-1, microseconds=1),
        raw=b"\x00\xff",
    )
    Detail.objects.create(product=products[1])
    Book.objects.create(name="book 1", category=roots[0], author="x", shelf=stores[0])
    Book.objects.create(name="book 2", category=roots[1], author="y", price=3)
    first = Parcel.objects.create(id=PARCELS[0], label="outer")
    Parcel.objects.create(id=PARCELS[1], label="inner", inner=first)
    Leaf.objects.create(name="leaf")
    Quick.objects.create(name="quick")
    Payment.objects.create(amount=Money(1250, "EUR"), status="paid", till=stores[0])
    Soft.objects.create(name="soft")
    Left.objects.create(name="left only")  # so that the two keys of `both` differ
    Both.objects.create(name="both", store=stores[0])
    Slug.objects.create(slug="a:b", note="x")
    Slug.objects.create(slug="A:B", note="y")


def name_of(pk: int = 1, manager: str = "cached") -> str:
    return str(getattr(Product, manager).get(pk=pk).name)


def rename(name: str, pk: int = 1) -> None:
    product = Product.objects.get(pk=pk)
    product.name = name
    product.save()
