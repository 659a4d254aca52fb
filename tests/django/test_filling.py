"""Instances that are filled without `from_db`: only where nobody could tell."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

import pytest
from django.db import connections, models
from django.db.models import Count, F, Max
from django.db.models.base import ModelBase
from django.db.models.signals import post_init, pre_init
from django.test.utils import isolate_apps, override_settings
from shop.built import built
from shop.models import Book, Category, Detail, Payment, Product, Quick, Store
from shop.reads import snapshot

from zoocache import local
from zoocache.contrib.django import ZooCacheManager, filling, plans, recipes
from zoocache.contrib.django.connection import state_of

CALLS: list[str] = []


@pytest.fixture(autouse=True)
def rows(sqlite: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that knows no shape."""
    monkeypatch.setattr(recipes, "roots", {})
    CALLS.clear()
    store = Store.objects.create(name="store")
    category = Category.objects.create(name="category")
    for number in range(1, 4):
        Product.objects.create(
            name=f"p{number}", stock=number, category=category if number > 1 else None, store=store
        )


def is_filled(read: Callable[[], Any]) -> bool:
    """Does the third evaluation build nothing?"""
    read()
    read()
    with built() as seen:
        read()
    return not seen


class Own:
    """How a model may take part in its own loading, each in a class of its own."""

    class FromDb:
        @classmethod
        def from_db(cls, db: str, names: Any, values: Any, **kwargs: Any) -> Any:
            CALLS.append("from_db")
            made = super().from_db(db, names, values, **kwargs)
            made.loaded = dict(zip(names, values, strict=True))
            return made

    class Init:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            CALLS.append("init")
            self.was = self.name

    class New:
        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            CALLS.append("new")
            return super().__new__(cls)

    class SetAttr:
        def __setattr__(self, name: str, value: Any) -> None:
            CALLS.append(name)
            super().__setattr__(name, value)

    class Behind:
        """Called by Model.__init__, as the next one."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            CALLS.append("behind")


def proxy(*bases: type, name: str = "Proxy", **namespace: Any) -> Any:
    """A proxy of Product with classes in front of it or behind."""

    class Meta:
        proxy = True
        app_label = "shop"

    namespace |= {"Meta": Meta, "__module__": __name__}
    return ModelBase(name, bases, namespace)


KINDS: dict[str, Callable[[], Any]] = {
    "from_db": lambda: proxy(Own.FromDb, Product),
    "init": lambda: proxy(Own.Init, Product),
    "new": lambda: proxy(Own.New, Product),
    "setattr": lambda: proxy(Own.SetAttr, Product),
    "init behind Model's": lambda: proxy(Product, Own.Behind),
    "property over a field": lambda: _with_descriptor(
        property(lambda self: self.__dict__["x"], lambda self, value: CALLS.append(value))
    ),
    "descriptor of its own": lambda: _with_descriptor(_Descriptor(Product._meta.get_field("name"))),
}


class _Descriptor(models.fields.DeferredAttribute):
    def __set__(self, instance: Any, value: Any) -> None:
        CALLS.append("set")
        instance.__dict__["name"] = value


def _with_descriptor(descriptor: Any) -> Any:
    kind = proxy(Product)
    kind.name = descriptor
    return kind


@pytest.mark.parametrize("name", KINDS)
@isolate_apps("shop")
def test_a_model_that_takes_part_in_its_loading_loads_itself(name: str) -> None:
    kind = KINDS[name]()

    def read(manager: Any) -> Any:
        CALLS.clear()
        found = list(manager.order_by("pk"))
        return [list(vars(one).items())[1:] for one in found], [vars(one._state) for one in found]

    expected = read(kind.objects)
    assert CALLS
    calls = list(CALLS)
    for _ in range(4):
        assert read(kind.cached) == expected
        assert calls == CALLS


@isolate_apps("shop")
def test_a_model_that_is_related_takes_part_too() -> None:
    class Owner(Own.FromDb, models.Model):
        name = models.CharField(max_length=10)

        class Meta:
            app_label = "shop"

    class Owned(models.Model):
        owner = models.ForeignKey(Owner, models.CASCADE)

        objects = ZooCacheManager()

        class Meta:
            app_label = "shop"

    def read(manager: Any) -> Any:
        return [vars(owned.owner)["loaded"] for owned in manager.select_related("owner")]

    with tables_of("default", Owner, Owned):
        Owned.objects.create(owner=Owner.objects.create(name="o"))
        for _ in range(4):
            assert read(Owned.cached) == read(Owned.objects) == [{"id": 1, "name": "o"}]


@contextmanager
def tables_of(alias: str, *made: type[models.Model]) -> Iterator[None]:
    with connections[alias].schema_editor() as editor:
        for model in made:
            editor.create_model(model)
    try:
        yield
    finally:
        with connections[alias].schema_editor() as editor:
            for model in reversed(made):
                editor.delete_model(model)


def test_a_metaclass_may_make_instances_in_its_own_way() -> None:
    class Making(ModelBase):
        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            CALLS.append("made")
            return super().__call__(*args, **kwargs)

    with isolate_apps("shop"):

        class Made(models.Model, metaclass=Making):
            name = models.CharField(max_length=5)

            class Meta:
                app_label = "shop"

        assert not filling.is_plain(Made)


@pytest.mark.parametrize("signal", [pre_init, post_init], ids=["pre_init", "post_init"])
@pytest.mark.parametrize("sender", [Product, None, Category], ids=["of it", "of all", "related"])
def test_who_wants_to_be_told_of_instances_is_told(signal: Any, sender: Any) -> None:
    def read() -> Any:
        return list(Product.cached.filter(stock__gt=1).select_related("category").order_by("pk"))

    def told(sender: Any, **kwargs: Any) -> None:
        CALLS.append(sender.__name__)

    assert is_filled(read)
    signal.connect(told, sender=sender)
    try:
        for _ in range(3):
            CALLS.clear()
            read()
            got = list(CALLS)
            CALLS.clear()
            list(Product.objects.filter(stock__gt=1).select_related("category").order_by("pk"))
            assert got == CALLS != []
    finally:
        signal.disconnect(told, sender=sender)
    CALLS.clear()
    assert is_filled(read)
    assert not CALLS


@isolate_apps("shop")
def test_an_annotation_over_a_property_is_refused_as_ever() -> None:
    kind = proxy(Product, n=property(lambda self: 5))
    for manager in [kind.objects, kind.cached, kind.cached]:
        with pytest.raises(AttributeError):
            list(manager.annotate(n=Count("tags")))

    setting = proxy(
        Product,
        name="Setting",
        n=property(lambda self: -self.__dict__["n"], lambda s, v: s.__dict__.update(n=v)),
    )
    for _ in range(4):
        assert [one.n for one in setting.cached.annotate(n=Max("stock")).order_by("pk")] == [
            -1, -2, -3,
        ]  # fmt: skip


def test_instances_are_as_good_as_django_s() -> None:
    queryset = Product.cached.select_related("category").order_by("pk")
    assert is_filled(lambda: list(queryset.all()))
    product = list(queryset.all())[1]
    assert product == Product.objects.get(pk=2)
    assert hash(product) == hash(Product.objects.get(pk=2))
    assert product.category is product._state.fields_cache["category"]
    for other in [copy.copy(product), copy.deepcopy(product), pickle.loads(pickle.dumps(product))]:
        assert snapshot(other) == snapshot(product)
    product.name = "changed"
    product.save()
    assert Product.objects.get(pk=2).name == "changed"
    assert list(queryset.all())[1].name == "changed"
    for _ in range(3):
        only = list(Product.cached.only("name").order_by("pk"))
    assert only[1].get_deferred_fields() == Product.objects.only("name")[1].get_deferred_fields()
    assert only[1].stock == 2
    only[1].stock = 9
    only[1].save()
    assert Product.objects.get(pk=2).stock == 9


def test_fields_convert_their_values_for_each_caller() -> None:
    Payment.objects.create(amount=Payment(amount="5 EUR").amount, status="paid")
    reads: list[Callable[[Any], Any]] = [
        lambda M: list(M.order_by("pk")),
        lambda M: list(M.values_list("amount", "status")),
        lambda M: list(M.values("status", "amount")),
    ]
    for read in reads:
        for _ in range(4):
            assert snapshot(read(Payment.cached)) == snapshot(read(Payment.objects))


def test_what_differs_from_django_is_never_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should the writer be wrong, the first rows tell."""
    write = filling._Writer.function

    def wrong(self: Any) -> Any:
        self.lines = [line.replace("'stock'", "'stick'") for line in self.lines]
        self.columns = {name.replace("stock", "stick"): at for name, at in self.columns.items()}
        return write(self)

    monkeypatch.setattr(filling._Writer, "function", wrong)
    reads: list[Callable[[Any], Any]] = [
        lambda M: list(M.order_by("pk")),
        lambda M: list(M.select_related("category").order_by("pk")),
    ]
    for read in reads:
        for _ in range(4):
            expected = [list(vars(one)) for one in read(Product.objects)]
            assert [list(vars(one)) for one in read(Product.cached)] == expected
        assert not is_filled(lambda read=read: read(Product.cached))


def test_no_rows_verify_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    read = lambda: list(Quick.cached.filter(name="q"))  # noqa: E731
    for _ in range(3):
        assert read() == []
    compared = []
    compare = plans.same
    monkeypatch.setattr(plans, "same", lambda *args: compared.append(1) or compare(*args))
    Quick(name="q").save()
    assert len(read()) == 1
    assert compared == [1]
    assert is_filled(read)


def test_one_row_of_equal_values_does_not_hide_an_order() -> None:
    """Before Django 5.2 annotations came last, whatever the order that was asked for."""
    Category.objects.all().delete()
    category = Category.objects.create(pk=1, name="one")
    Product.objects.create(pk=77, name="x", category=category)
    read = lambda M: list(M.annotate(n=Count("product")).values_list("n", "pk"))  # noqa: E731
    for _ in range(3):
        assert read(Category.cached) == [(1, 1)]
    Product.objects.create(pk=78, name="y", category=category)
    for _ in range(3):
        assert read(Category.cached) == read(Category.objects) == [(2, 1)]


def test_relations_are_new_for_each_row_and_each_caller() -> None:
    read = lambda: list(Product.cached.select_related("store").order_by("pk"))  # noqa: E731
    assert is_filled(read)
    one, other = read(), read()
    stores = [product.store for product in (*one, *other)]
    assert len({id(store) for store in stores}) == 6
    states = [store._state for store in stores] + [product._state for product in one]
    assert len({id(state) for state in states}) == 9
    stores[0].name = "changed"
    assert [product.store.name for product in read()] == ["store"] * 3


def test_both_sides_of_one_to_one(queries: Any) -> None:
    Detail.objects.create(product_id=1, text="t")
    for read in [
        lambda: Detail.cached.select_related("product").get(),
        lambda: Product.cached.select_related("detail").get(pk=1).detail,
    ]:
        for _ in range(4):
            detail = read()
            with queries(0):
                assert detail.product.detail is detail


@pytest.fixture
def arrays(postgres: Any) -> Iterator[Any]:
    """A model whose rows the driver gives as lists and dicts."""
    from django.contrib.postgres.fields import ArrayField

    with isolate_apps("shop"):

        class Listed(models.Model):
            numbers = ArrayField(models.IntegerField())
            name = models.CharField(max_length=10, default="n")

            objects = ZooCacheManager()

            class Meta:
                app_label = "shop"

        with tables_of("pg", Listed):
            yield Listed


def test_a_list_in_a_row_is_its_caller_s_own(arrays: Any) -> None:
    """What the driver makes may be changed by whoever gets it."""
    arrays.objects.create(numbers=[1, 2])
    reads: list[Callable[[Any], Any]] = [
        lambda M: M.get().numbers,
        lambda M: M.values_list("numbers", "name").get()[0],
        lambda M: M.values("numbers").get()["numbers"],
        lambda M: M.filter(name__regex="n").values_list("numbers", flat=True).get(),
        lambda M: M.filter(numbers__contains=[1]).get().numbers,
    ]
    for read in reads:
        for _ in range(5):
            numbers = read(arrays.cached)
            assert numbers == [1, 2]
            numbers.append(3)


def test_a_copy_is_of_rows_as_the_backend_gives_them(postgres: Any) -> None:
    """The same entries and copies serve raw rows, by SQL, and converted ones, by recipe."""
    Product.objects.using("pg").create(name="x", price="1.50", data={"a": [1]})
    for _ in range(3):
        by_recipe = Product.cached.using("pg").get(name="x")
        by_sql = Product.cached.using("pg").filter(name=F("name")).get()
        assert snapshot(by_recipe) == snapshot(by_sql)
        assert repr(by_recipe.price) == "Decimal('1.50')"


def test_converters_are_worked_out_once_for_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    work_out = filling._converters
    monkeypatch.setattr(filling, "_converters", lambda *a, **k: made.append(k) or work_out(*a, **k))

    def shared() -> int:
        """How often they are worked out for a hit that is not this process's own."""
        made.clear()
        local.close_level()
        with built() as seen:
            found = Product.cached.get(pk=1)
        assert not seen
        assert snapshot(found) == snapshot(Product.objects.get(pk=1))
        return len(made)

    Product.objects.filter(pk=1).update(made=datetime(2024, 2, 29, tzinfo=timezone.utc))
    for _ in range(3):
        Product.cached.get(pk=1)
    assert shared() == 0
    connection = connections["default"]
    connection.close()
    connection.connect()
    assert [shared(), shared()] == [1, 0]
    monkeypatch.setattr(connection, "ops", copy.copy(connection.ops))
    assert [shared(), shared()] == [1, 0]
    monkeypatch.setattr(filling, "MOST_KNOWN", len(state_of(connection).converters))
    assert [shared(), len(state_of(connection).converters)] == [0, filling.MOST_KNOWN]
    Product.cached.values("name").get(pk=1)
    assert len(state_of(connection).converters) == 1
    assert [shared(), shared()] == [1, 0]
    with override_settings(USE_TZ=False):
        for _ in range(4):
            local.close_level()
            assert Product.cached.get(pk=1).made == Product.objects.get(pk=1).made
            assert Product.cached.get(pk=1).made.tzinfo is None
    assert shared() == 1


@isolate_apps("shop")
def test_a_field_that_names_its_converters_itself_is_asked_each_time(sqlite: Any) -> None:
    loud = []

    class Shouted(models.CharField):
        def get_db_converters(self, connection: Any) -> list[Any]:
            return [lambda value, expression, connection: value.upper()] if loud else []

    class Shout(models.Model):
        name = Shouted(max_length=10)

        objects = ZooCacheManager()

        class Meta:
            app_label = "shop"

    with tables_of("default", Shout):
        Shout.objects.create(name="a")
        for _ in range(3):
            assert Shout.cached.get().name == "a"
        loud.append(1)
        for _ in range(3):
            assert Shout.cached.get().name == "A"
        assert Shout.cached.values_list("name", flat=True).get() == "A"


def test_multi_table_children(sqlite: Any) -> None:
    Book.objects.create(name="b", author="a")
    reads: list[Callable[[Any], Any]] = [
        lambda M: list(M.order_by("pk")),
        lambda M: list(M.only("author")),
        lambda M: list(M.select_related("product_ptr")),
    ]
    for read in reads:
        for _ in range(4):
            assert snapshot(read(Book.cached)) == snapshot(read(Book.objects))
    assert is_filled(lambda: list(Book.cached.order_by("pk")))
