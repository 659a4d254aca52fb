"""Models that somebody else wrote: cached(), ZOOCACHE["MODELS"] and ["EVERYTHING"]."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.checks import run_checks
from django.db import models
from django.test import override_settings
from django.test.utils import isolate_apps
from shop.models import Category, Discount, Product, Store, Tag

from zoocache.contrib.django import ZooQuerySet, cached

Queries = Callable[..., Any]
IsCached = Callable[[Callable[[], Any]], bool]


class TestCached:
    @pytest.mark.parametrize(
        "source",
        [
            lambda: Store,
            lambda: Store.objects,
            lambda: Store.objects.all(),
            lambda: Store.objects.filter(pk__gt=0),
            lambda: Store._base_manager,
        ],
    )
    def test_of_models_managers_and_querysets(
        self, source: Callable[[], Any], shop: Any, is_cached: IsCached
    ) -> None:
        expected = list(Store.objects.order_by("pk").values())
        read = lambda: list(cached(source()).order_by("pk").values())  # noqa: E731
        assert read() == expected
        assert is_cached(read)
        Store.objects.filter(pk=1).update(name="new")
        assert read()[0]["name"] == "new"
        assert not is_cached(lambda: list(Store.objects.all()))

    def test_the_source_stays_as_it_is(self, shop: Any, is_cached: IsCached) -> None:
        source = Store.objects.filter(pk=1)
        assert cached(source).get() == source.get()
        assert type(source) is models.QuerySet
        assert not is_cached(lambda: source.all().get())

    def test_ttl_and_no_cache(self, shop: Any, is_cached: IsCached) -> None:
        assert cached(Store, ttl=5).query.zoocache.ttl == 5
        assert cached(cached(Store, ttl=5)).query.zoocache.ttl == 5
        assert cached(cached(Store, ttl=5), ttl=None).query.zoocache.ttl is None
        assert not is_cached(lambda: list(cached(Store).no_cache()))

    def test_relations_and_prefetches(self, shop: Any, is_cached: IsCached) -> None:
        product = Product.objects.get(pk=1)
        assert is_cached(lambda: list(cached(product.tags)))
        assert is_cached(lambda: list(cached(Store).prefetch_related("product_set")))
        assert is_cached(lambda: list(cached(Store.objects.union(Store.objects.filter(pk=1)))))

    def test_a_queryset_class_of_the_users(self, shop: Any, is_cached: IsCached) -> None:
        class Own(models.QuerySet):
            def first_letter(self, letter: str) -> Any:
                return self.filter(name__startswith=letter)

        source = Own(Store)
        made = cached(source)
        assert isinstance(made, Own)
        assert isinstance(made, ZooQuerySet)
        assert is_cached(lambda: list(cached(source).first_letter("s")))

    def test_copies_and_pickles(self, shop: Any) -> None:
        for made in (cached(Store), cached(Tag)):
            assert list(copy.deepcopy(made)) == list(pickle.loads(pickle.dumps(made))) == list(made)

    def test_writes_read_the_database(self, shop: Any, queries: Queries) -> None:
        list(cached(Store).filter(name="x"))
        with queries() as captured:
            cached(Store).get_or_create(name="x")
        assert any("INSERT" in query["sql"] for query in captured)
        assert cached(Store).filter(name="x").delete()[0] == 1

    @pytest.mark.parametrize("source", [None, "Store", 1, Store(), dict])
    def test_of_anything_else(self, source: Any) -> None:
        with pytest.raises(TypeError, match="a model, a manager or a queryset"):
            cached(source)

    def test_of_raw_sql_and_of_what_is_abstract(self) -> None:
        with pytest.raises(TypeError, match="raw SQL is never cached"):
            cached(Store.objects.raw("SELECT 1"))
        with pytest.raises(TypeError, match="abstract"):
            cached(type("Abstract", (models.Model,), {
                "__module__": __name__,
                "Meta": type("Meta", (), {"abstract": True, "app_label": "shop"}),
            }))  # fmt: skip


def reads_of(model: Any) -> Callable[[], Any]:
    return lambda: list(model.objects.all())


class TestPatterns:
    @pytest.mark.parametrize("pattern", ["shop.Store", "shop.store", "shop.*", "*", "*.*"])
    def test_objects_caches(self, pattern: str, shop: Any, is_cached: IsCached) -> None:
        assert not is_cached(reads_of(Store))
        with override_settings(ZOOCACHE={"MODELS": {pattern: {"ttl": 300}}}):
            assert is_cached(reads_of(Store))
            assert Store.objects.all().query.zoocache.ttl == 300
            assert is_cached(reads_of(ContentType)) == pattern.startswith("*")
            Store.objects.filter(pk=1).update(name="new")
            assert Store.objects.get(pk=1).name == "new"
        assert not is_cached(reads_of(Store))

    def test_the_most_exact_pattern_counts(self, shop: Any, is_cached: IsCached) -> None:
        given = {"*": {}, "shop.*": {"ttl": 5}, "shop.Tag": {"ttl": 7}, "shop.category": None}
        with override_settings(ZOOCACHE={"MODELS": given}):
            assert Store.objects.all().query.zoocache.ttl == 5
            assert Tag.objects.all().query.zoocache.ttl == 7
            assert ContentType.objects.all().query.zoocache.ttl is None
            assert not is_cached(reads_of(Category))

    def test_the_default_managers_stay_plain(self, shop: Any, is_cached: IsCached) -> None:
        with override_settings(ZOOCACHE={"MODELS": {"shop.*": {}}}):
            store = Store.objects.get(pk=1)
            for read in (
                lambda: list(Store._default_manager.all()),
                lambda: list(Store._base_manager.all()),
                lambda: list(store.product_set.all()),
                store.refresh_from_db,
                lambda: Product._meta.get_field("store").clean(1, None),
            ):
                assert not is_cached(read)
            assert type(Store._default_manager) is models.Manager

    def test_proxies_are_models_of_their_own(self, shop: Any, is_cached: IsCached) -> None:
        with override_settings(ZOOCACHE={"MODELS": {"shop.Discount": {}}}):
            assert is_cached(reads_of(Discount))
            assert not is_cached(reads_of(Product))
            assert Discount.objects.first().__class__ is Discount

    @isolate_apps("shop")
    def test_a_manager_that_an_abstract_base_declared(self) -> None:
        """As that of auth.User."""
        with override_settings(ZOOCACHE={"MODELS": {"shop.*": {}, "shop.Child": None}}):

            class Base(models.Model):
                objects = models.Manager()

                class Meta:
                    abstract = True

            class User(Base):
                class Meta:
                    app_label = "shop"

            class Child(User):
                class Meta:
                    app_label = "shop"

            assert isinstance(User.objects.all(), ZooQuerySet)
            assert User.objects.model is User
            assert type(User._default_manager) is models.Manager
            assert type(Child.objects.all()) is models.QuerySet
            assert Child.objects.model is Child
            with pytest.raises(AttributeError, match="abstract"):
                _ = Base.objects

    def test_objects_is_still_no_attribute_of_instances(self, shop: Any) -> None:
        with (
            override_settings(ZOOCACHE={"MODELS": {"shop.*": {}}}),
            pytest.raises(AttributeError, match="accessible"),
        ):
            _ = Store().objects

    @pytest.mark.parametrize(
        "given", [["shop.*"], {"shop": {}}, {"shop.*": 300}, {"shop.*": {"timeout": 3}},
                  {"shop.*": {"ttl": -1}}]
    )  # fmt: skip
    def test_wrong_patterns(self, given: Any, db: Any) -> None:
        with override_settings(ZOOCACHE={"MODELS": given}):
            assert [m.id for m in run_checks() if m.id == "zoocache.E001"]

    def test_a_pattern_without_a_model(self, db: Any) -> None:
        with override_settings(ZOOCACHE={"MODELS": {"shop.Stroe": {}, "shop.*": {}}}):
            (found,) = (m for m in run_checks() if m.id == "zoocache.W003")
        assert "shop.stroe" in found.msg


class TestEverything:
    def test_every_queryset_is_cached(self, shop: Any, is_cached: IsCached) -> None:
        product = Product.objects.get(pk=1)
        with override_settings(ZOOCACHE={"EVERYTHING": True}):
            for read in (
                reads_of(Store),
                lambda: list(product.tags.all()),
                lambda: Store._base_manager.count(),
                lambda: Product.objects.get(pk=1).category,
            ):
                assert is_cached(read)
            assert not is_cached(lambda: list(Product.objects.no_cache()))
            Store.objects.create(name="one more")
            assert Store.objects.filter(name="one more").exists()
        assert not is_cached(reads_of(Store))
