"""Serializers of Django REST framework (promises 27 to 30, 33)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from django.test import RequestFactory
from django.utils import timezone, translation
from django.utils.translation import gettext_lazy
from shop.models import Category, Detail, Product, Store, Tag

from zoocache.contrib.django import cached_model_serializers

serializers = pytest.importorskip("rest_framework.serializers")
from rest_framework import generics, pagination, renderers  # noqa: E402

from zoocache.contrib.django.rest_framework import (  # noqa: E402
    CacheableSerializerMixin,
    cacheable_serializer,
)

Queries = Callable[..., Any]
Elsewhere = Callable[[Callable[[], Any]], Any]


class CategorySerializer(serializers.ModelSerializer):
    class Meta:
        model = Category
        fields = ["id", "name"]


class ProductSerializer(serializers.ModelSerializer):
    class Meta:
        model = Product
        fields = ["id", "name", "price", "made", "data"]


class DeepSerializer(serializers.ModelSerializer):
    category = CategorySerializer()
    category_name = serializers.CharField(source="category.name", default=None)
    tags = serializers.SlugRelatedField(slug_field="name", many=True, read_only=True)
    details = serializers.SerializerMethodField()

    class Meta:
        model = Product
        fields = ["id", "category", "category_name", "tags", "store", "details"]

    def get_details(self, product: Any) -> int:
        return Detail.objects.filter(product=product).count()


def test_27_it_imports_without_the_framework() -> None:
    code = (
        "import sys; sys.modules['rest_framework'] = None\n"
        "from zoocache.contrib.django import cached_model_serializers\n"
        "cached_model_serializers(); print('fine')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stdout == "fine\n", ran.stderr


def test_28_as_on_the_page(shop: Any, queries: Queries) -> None:
    cached_model_serializers()
    plain = ProductSerializer(Product.objects.get(pk=1)).data
    assert ProductSerializer(Product.objects.get(pk=1), cached=True).data == plain
    hit = ProductSerializer(Product.objects.get(pk=1), cached=True).data
    assert hit == plain
    assert list(hit) == list(plain)
    assert [type(value) for value in hit.values()] == [type(value) for value in plain.values()]
    assert json.loads(renderers.JSONRenderer().render(hit)) == json.loads(
        renderers.JSONRenderer().render(plain)
    )


def test_28_many(shop: Any, queries: Queries) -> None:
    rows = list(Product.objects.order_by("pk"))
    plain = DeepSerializer(rows, many=True).data
    fresh = list(Product.objects.order_by("pk"))
    assert DeepSerializer(fresh, many=True, cached=True).data == plain
    again = list(Product.objects.order_by("pk"))
    with queries(0):
        assert DeepSerializer(again, many=True, cached=True).data == plain


def test_28_it_is_off_unless_asked_for(shop: Any, queries: Queries) -> None:
    for _ in range(2):
        product = Product.objects.get(pk=1)
        with queries() as captured:
            _ = DeepSerializer(product).data
        assert len(captured) > 0


def deep(pk: int = 2) -> Any:
    return dict(DeepSerializer(Product.objects.get(pk=pk), cached=True).data)


@pytest.mark.parametrize(
    "write",
    [
        lambda p: Product.objects.filter(pk=p.pk).update(store=2),
        lambda p: Category.objects.filter(pk=p.category_id).update(name="moved"),
        lambda p: Tag.objects.filter(pk=1).update(name="changed"),
        lambda p: p.tags.clear(),
        lambda p: Detail.objects.filter(product=p).delete(),
    ],
)
def test_29_dropped_when_a_row_that_it_shows_changes(
    write: Any, shop: Any, elsewhere: Elsewhere, queries: Queries
) -> None:
    before = deep()
    product = Product.objects.get(pk=2)
    with queries(0):
        assert DeepSerializer(product, cached=True).data == before
    elsewhere(lambda: write(Product.objects.get(pk=2)))
    after = deep()
    assert after == dict(DeepSerializer(Product.objects.get(pk=2)).data)
    assert after != before


def test_29_an_instance_that_was_loaded_before_a_write(shop: Any, elsewhere: Elsewhere) -> None:
    old = Product.objects.get(pk=1)
    elsewhere(lambda: Product.objects.filter(pk=1).update(name="new"))
    assert ProductSerializer(old, cached=True).data["name"] == "product 1"
    assert ProductSerializer(Product.objects.get(pk=1), cached=True).data["name"] == "new"


def test_29_an_edited_instance(shop: Any) -> None:
    product = Product.objects.get(pk=1)
    product.name = "edited"
    assert ProductSerializer(product, cached=True).data["name"] == "edited"
    assert ProductSerializer(Product.objects.get(pk=1), cached=True).data["name"] == "product 1"


def test_29_fields_that_were_taken_away(shop: Any) -> None:
    class Some(ProductSerializer):
        def __init__(self, *args: Any, only: Any = None, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            if only:
                for name in set(self.fields) - set(only):
                    self.fields.pop(name)

    product = Product.objects.get(pk=1)
    assert set(Some(product, only=["id"], cached=True).data) == {"id"}
    assert set(Some(product, only=["id", "name"], cached=True).data) == {"id", "name"}
    assert set(Some(product, only=["id"], cached=True).data) == {"id"}
    assert len(Some(product, cached=True).data) == 5


class Seen(serializers.ModelSerializer):
    """Shows what its context says."""

    calls = 0
    shown = serializers.SerializerMethodField()

    class Meta:
        model = Product
        fields = ["id", "shown"]

    def get_shown(self, product: Any) -> Any:
        Seen.calls += 1
        return str(self.look(self.context))

    @staticmethod
    def look(context: Any) -> Any:
        return None


@pytest.mark.parametrize(
    "look",
    [
        lambda context: context["request"].user,
        lambda context: context.get("request").user,
        lambda context: dict(context.items())["request"].user,
        lambda context: "request" in context,
        lambda context: {**context}["request"].user,
        lambda context: sorted(context),
    ],
)
def test_29_who_looks_at_the_request_is_not_cached(
    look: Any, shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Seen, "look", staticmethod(look))
    monkeypatch.setattr(Seen, "calls", 0)
    for user in ("ann", "bob"):
        request = RequestFactory().get("/")
        request.user = user
        serializer = Seen(Product.objects.get(pk=1), cached=True, context={"request": request})
        assert serializer.data["shown"] == str(look({"request": request}))
    assert Seen.calls == 2


def test_29_a_request_that_nobody_looks_at(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Seen, "calls", 0)
    for _ in range(2):
        context = {"request": RequestFactory().get("/")}
        assert Seen(Product.objects.get(pk=1), cached=True, context=context).data["id"] == 1
    assert Seen.calls == 1


def test_29_a_context_that_can_be_named(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Seen, "look", staticmethod(lambda context: context["currency"]))
    monkeypatch.setattr(Seen, "calls", 0)
    shown = [
        Seen(Product.objects.get(pk=1), cached=True, context={"currency": each}).data["shown"]
        for each in ("EUR", "USD", "EUR")
    ]
    assert shown == ["EUR", "USD", "EUR"]
    assert Seen.calls == 2


def test_29_language_and_time_zone(shop: Any) -> None:
    class Worded(serializers.ModelSerializer):
        word = serializers.SerializerMethodField()

        class Meta:
            model = Product
            fields = ["made", "word"]

        def get_word(self, product: Any) -> str:
            return str(gettext_lazy("Monday"))

    def data() -> Any:
        return dict(Worded(Product.objects.get(pk=1), cached=True).data)

    first = data()
    with translation.override("de"):
        assert data()["word"] == "Montag"
    with timezone.override("Asia/Tokyo"):
        assert data()["made"] != first["made"]
    assert data() == first


def test_29_arguments_of_fields(shop: Any) -> None:
    def with_places(places: int) -> Any:
        class Priced(serializers.ModelSerializer):
            price = serializers.DecimalField(max_digits=10, decimal_places=places)

            class Meta:
                model = Product
                fields = ["price"]

        return Priced(Product.objects.get(pk=1), cached=True).data["price"]

    assert with_places(2) == "0.10"
    assert with_places(3) == "0.100"
    assert with_places(2) == "0.10"


def test_29_in_a_transaction_that_has_written(shop: Any) -> None:
    from django.db import transaction
    from shop import routing

    before = deep()
    with transaction.atomic(using=routing.active):
        Tag.objects.filter(pk=1).update(name="inside")
        assert "inside" in deep()["tags"]
        transaction.set_rollback(True, using=routing.active)
    assert deep() == before


def test_30_the_decorator(shop: Any, queries: Queries) -> None:
    @cacheable_serializer
    class Plain(DeepSerializer):
        pass

    @cacheable_serializer(ttl=60)
    class Kept(DeepSerializer):
        pass

    for cls in (Plain, Kept):
        _ = cls(Product.objects.get(pk=1)).data
        product = Product.objects.get(pk=1)
        with queries(0):
            _ = cls(product).data
        product = Product.objects.get(pk=1)
        with queries() as captured:
            _ = cls(product, cached=False).data
        assert len(captured) > 0
    product = Product.objects.get(pk=1)
    with queries() as captured:
        _ = DeepSerializer(product).data  # the base is left alone
    assert len(captured) > 0


def test_30_the_mixin(shop: Any, queries: Queries) -> None:
    class Named(CacheableSerializerMixin, serializers.Serializer):
        zoocache_model = Product
        zoocache_ttl = 60

        name = serializers.CharField()
        category = serializers.CharField(source="category.name")

    def data() -> Any:
        product = Product.objects.get(pk=1)
        with queries() as captured:
            shown = dict(Named(product).data)
        return shown, len(captured)

    first, count = data()
    assert count == 1
    assert data() == (first, 0)
    Category.objects.filter(pk=Product.objects.get(pk=1).category_id).update(name="new")
    assert data()[0]["category"] == "new"


def test_writing_is_as_ever(shop: Any) -> None:
    product = Product.objects.get(pk=1)
    _ = ProductSerializer(product, cached=True).data
    serializer = ProductSerializer(product, data={"name": "new"}, partial=True, cached=True)
    assert serializer.is_valid(), serializer.errors
    serializer.save()
    assert serializer.data["name"] == "new"
    assert ProductSerializer(Product.objects.get(pk=1), cached=True).data["name"] == "new"


def test_a_nested_serializer_that_caches_by_itself(shop: Any, queries: Queries) -> None:
    @cacheable_serializer
    class Inner(CategorySerializer):
        pass

    class Outer(serializers.ModelSerializer):
        category = Inner()

        class Meta:
            model = Product
            fields = ["category"]

    def data() -> Any:
        return Outer(Product.objects.select_related("category").get(pk=1), cached=True).data

    data()
    with queries(1):
        data()
    Category.objects.filter(pk=1).update(name="new")
    Category.objects.filter(pk=2).update(name="new")
    assert data()["category"]["name"] == "new"


class Pages(pagination.PageNumberPagination):
    page_size = 3


class ProductList(generics.ListAPIView):
    serializer_class = ProductSerializer
    pagination_class = Pages
    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []
    renderer_classes = [renderers.JSONRenderer]

    def get_queryset(self) -> Any:
        return Product.cached.filter(active=True).order_by("pk")

    def filter_queryset(self, queryset: Any) -> Any:
        name = self.request.query_params.get("name")
        return queryset.filter(name=name) if name else queryset


def test_33_list_views(shop: Any, queries: Queries) -> None:
    view = ProductList.as_view()
    for path in ("/", "/?page=2", "/?name=product+1"):
        first = view(RequestFactory().get(path)).render()
        with queries(0):
            assert view(RequestFactory().get(path)).render().content == first.content
    Store.objects.create(name="not read")
    Product.objects.filter(pk=1).update(name="new")
    assert b'"new"' in view(RequestFactory().get("/")).render().content
