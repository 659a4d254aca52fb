"""Promises 31, 32 and 34: Django's views, and what sets zoocache apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.paginator import Paginator
from django.db import connections
from django.db.models import Count, Exists, OuterRef
from django.http import Http404
from django.test import RequestFactory
from django.views.generic import DetailView, ListView
from shop import routing, stock
from shop.models import Category, Product, Tag
from shop.stock import name_of, rename

from zoocache import invalidate

Queries = Callable[..., Any]
Elsewhere = Callable[[Callable[[], Any]], Any]


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


def test_34_invalidation_is_semantic(shop: Any, queries: Queries) -> None:
    """A write drops what it changes, by what that is, and nothing else."""
    reads: dict[str, Callable[[], Any]] = {
        "row": lambda: Product.cached.get(pk=1),
        "other row": lambda: Product.cached.get(pk=2),
        "its list": lambda: list(Product.cached.filter(category=2)),
        "other list": lambda: list(Product.cached.filter(category=3)),
        "count": lambda: Product.cached.count(),
        "other model": lambda: list(Category.cached.all()),
    }
    for read in reads.values():
        read()
    rename("new")  # in category 2
    dropped = set()
    for name, read in reads.items():
        with queries() as captured:
            read()
        dropped |= {name} if captured else set()
    assert dropped == {"row", "its list", "count"}


def test_34_queries_are_tracked_by_themselves(shop: Any) -> None:
    """Whatever tables a query reads, and however: nobody names them."""
    reads: dict[str, Callable[[], list[Any]]] = {
        "join": lambda: list(Product.cached.filter(tags__name="new").values_list("pk")),
        "subquery": lambda: list(
            Product.cached.filter(category__in=Category.objects.filter(rank=0)).values_list("pk")
        ),
        "exists": lambda: list(
            Category.cached.filter(~Exists(Product.objects.filter(category=OuterRef("pk"))))
        ),
        "annotation": lambda: list(Category.cached.annotate(n=Count("product")).values_list("n")),
        "prefetch": lambda: [
            [tag.name for tag in product.tags.all()]
            for product in Product.cached.prefetch_related("tags")
        ],
    }
    writes: dict[str, Callable[[], Any]] = {
        "join": lambda: Tag.objects.filter(name="new").update(name="old"),
        "subquery": lambda: Category.objects.update(rank=9),
        "exists": lambda: Product.objects.filter(category=2).delete(),
        "annotation": lambda: Product.objects.update(category=3),
        "prefetch": lambda: Product.objects.get(pk=2).tags.clear(),
    }
    for name, read in reads.items():
        before = read()
        writes[name]()
        after = read()
        assert after != before, name
        invalidate("Product", "Category", "Tag")
        assert read() == after, name


def test_34_foreign_keys_are_tracked_by_themselves(shop: Any, queries: Queries) -> None:
    """The row that moves drops the lists that it leaves and enters, and no third one."""
    reads = [lambda pk=pk: list(Product.cached.filter(category=pk)) for pk in (1, 2, 4)]
    before = [len(read()) for read in reads]
    product = Product.objects.get(pk=1)  # in category 2
    product.category_id = 4
    product.save()
    with queries(2):
        assert [len(read()) for read in reads] == [before[0], before[1] - 1, before[2] + 1]


def test_34_signals_are_built_in(sqlite: Any, is_cached: Callable[..., bool]) -> None:
    """Nothing is connected or declared: both a save and a delete are seen, signals sent or not."""
    stock.fill()
    assert is_cached(name_of)
    rename("saved")
    assert name_of() == "saved"
    Product.objects.bulk_update([Product(pk=1, name="no signal")], ["name"])
    assert name_of() == "no signal"
    Product.objects.get(pk=1).delete()
    with pytest.raises(Product.DoesNotExist):
        name_of()
