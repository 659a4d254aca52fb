"""Reads that were once served what is not theirs: each test is named after what broke."""

from __future__ import annotations

import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import django
import pytest
from django.db import connections, models
from django.db.models import BooleanField, Count, F, Func, Q, Sum, Value
from django.db.models.expressions import RawSQL
from django.db.models.functions import Cast, Greatest
from django.db.models.sql import Query
from django.db.models.sql.compiler import SQLCompiler
from django.test import override_settings
from shop import routing, stock
from shop.models import Category, Product
from shop.reads import cached, outcome, plain

import zoocache
from zoocache import local, store
from zoocache.contrib.django import ZooCacheManager
from zoocache.exceptions import ConfigError

Queries = Callable[..., Any]
IsCached = Callable[[Callable[[], Any]], bool]


# What names an entry


def narrow(M: Any) -> Any:
    return M(Product).only("name").order_by("price", "pk").distinct()


def wide(M: Any) -> Any:
    return M(Product).only("name", "price").order_by("price", "pk").distinct()


@pytest.mark.parametrize("pair", [(narrow, wide), (wide, narrow)], ids=["narrow", "wide"])
def test_rows_of_another_width_under_the_same_sql(shop: Any, pair: Any) -> None:
    """DISTINCT makes Django select what it orders by, and cut it off again."""
    assert str(narrow(plain).query) == str(wide(plain).query)
    for read in pair * 2:
        assert outcome(lambda M, read=read: list(read(M)), cached) == outcome(
            lambda M, read=read: list(read(M)), plain
        )


def test_aggregates_over_a_subquery_have_no_width(shop: Any, is_cached: IsCached) -> None:
    for read in (
        lambda M: M(Product).order_by("pk")[:3].aggregate(Sum("stock")),
        lambda M: M(Product).values("category").distinct().count(),
    ):
        assert outcome(read, cached) == outcome(read, plain)
        assert is_cached(lambda read=read: read(cached))


def _deployed(value: str) -> Any:
    """An Enum as a new version of the code may have it: the same name, another value."""
    source = f"from django.db import models\nclass Kind(models.TextChoices):\n    X = {value!r}\n"
    exec(source, sys.modules["deployed"].__dict__)
    return sys.modules["deployed"].Kind.X


def test_an_enum_parameter_whose_value_changed(
    shop: Any, is_cached: IsCached, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "deployed", types.ModuleType("deployed"))

    def read() -> list[int]:
        return list(Product.cached.filter(name=kind).values_list("pk", flat=True))

    kind = _deployed("product 1")
    assert is_cached(read)
    assert read() == [1]
    kind = _deployed("product 2")
    assert read() == [2]


# What may be kept


class Own(Func):
    """SQL of the user's: nobody knows what else it reads."""

    function = "COALESCE"
    output_field = BooleanField()


LATE = "EXISTS (SELECT 1 FROM shop_category WHERE name = 'late')"


def test_sql_of_the_users_as_an_aggregates_filter(shop: Any, is_cached: IsCached) -> None:
    def read(condition: Any) -> Any:
        return lambda: Product.cached.aggregate(n=Count("pk", filter=condition))["n"]

    assert is_cached(read(Q(active=True)))
    raw = RawSQL(LATE, [], output_field=BooleanField())
    for own in (raw, Own("active", Value(False)), Q(active=True) & Q(raw)):
        assert not is_cached(read(own)), own
    assert read(raw)() == 0
    Category.objects.create(name="late")
    assert read(raw)() == Product.objects.count()


def test_sql_of_the_users_as_a_filter_in_group_by(shop: Any, is_cached: IsCached) -> None:
    condition = Own(F("product__active"), Value(False))
    queryset = Category.cached.annotate(n=Count("product", filter=condition)).order_by("pk")
    assert not is_cached(lambda: [category.n for category in queryset.all()])


class OwnCompiler(SQLCompiler):
    pass


class OwnQuery(Query):
    """As django-cte does: it brings a compiler that the backend does not know."""

    def get_compiler(self, using=None, connection=None, elide_empty=True):
        return OwnCompiler(self, connection or connections[using], using, elide_empty)


def test_a_query_class_with_a_compiler_of_its_own(shop: Any, is_cached: IsCached) -> None:
    def names() -> list[str]:
        queryset = Product.cached.filter(pk__lte=2).order_by("pk")
        queryset.query = queryset.query.chain(OwnQuery)
        return [product.name for product in queryset]

    assert not is_cached(names)
    Product.objects.filter(pk=1).update(name="changed")
    assert names() == ["changed", "product 2"]


@pytest.mark.parametrize("field", [models.DateTimeField, models.DateField, models.TimeField])
def test_now_as_text_is_not_a_constant(shop: Any, is_cached: IsCached, field: type) -> None:
    def read(source: Any) -> Any:
        return lambda: list(Product.cached.annotate(at=Cast(source, field())).values_list("at"))

    assert not is_cached(read(Value("now")))
    assert is_cached(read("made"))
    Product.objects.update(name="2024-01-01 10:00" if field is models.DateTimeField else "10:00")
    if field is not models.DateField:
        assert not is_cached(read("name"))  # a row may say "now"


@pytest.mark.parametrize(
    "read",
    [
        lambda: list(Product.cached.filter(made__lte=Value("now"))),
        lambda: list(Product.cached.filter(day=Value("today"))),
        lambda: list(
            Product.cached.values_list(
                Greatest("made", Value("now"), output_field=models.DateTimeField())
            )
        ),
    ],
    ids=["made", "day", "greatest"],
)
def test_now_as_text_beside_a_date(
    postgres: Any, is_cached: IsCached, read: Callable[[], Any]
) -> None:
    """PostgreSQL takes the text for a date there, too."""
    stock.fill()
    assert not is_cached(read)


@pytest.mark.parametrize("ttl", [float("inf"), float("nan"), 1e30, 10**400, 0, -1])
def test_a_ttl_that_the_core_cannot_count_is_refused(ttl: float) -> None:
    with pytest.raises(ConfigError, match="at most a hundred years"):
        Product.cached.zoocache(ttl=ttl)
    with pytest.raises(ConfigError, match="at most a hundred years"):
        ZooCacheManager(ttl=ttl)


def test_a_replica_is_never_cached(
    rollback: Any, is_cached: IsCached, queries: Queries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may lag: a row that was read from it after the primary's COMMIT may be old."""
    stock.fill()
    assert is_cached(lambda: Product.cached.get(pk=1))
    monkeypatch.setitem(rollback.settings_dict, "TEST", {"MIRROR": "default"})
    rollback.close()  # settings count from the connection on
    before = store.stats()["sets"]
    for _ in range(2):
        with queries(1):
            Product.cached.get(pk=1)
    assert not is_cached(lambda: Product.cached.get(pk=2))
    assert store.stats()["sets"] == before


# Sessions that SQL has changed


def test_a_session_that_was_closed_stops_no_function(postgres: Any) -> None:
    """Until it connects anew, which a thread may never do."""

    @zoocache.cacheable()
    def now() -> float:
        return time.perf_counter()

    assert now() == now()
    with postgres.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")
    assert now() != now()
    postgres.close()
    assert now() == now()
    assert not [one for one in local.busy if not isinstance(one, str)]


@pytest.fixture
def tenant(postgres: Any) -> Iterator[Any]:
    """PostgreSQL with a second schema, in which the products have another name."""
    stock.fill()
    with postgres.cursor() as cursor:
        cursor.execute("CREATE SCHEMA tenant")
        cursor.execute("CREATE TABLE tenant.shop_product AS SELECT * FROM shop_product")
        cursor.execute("UPDATE tenant.shop_product SET name = 'the tenant''s'")
    postgres.close()
    yield postgres
    connections["pg"] = postgres
    with postgres.cursor() as cursor:
        cursor.execute("DROP SCHEMA tenant CASCADE")


@pytest.mark.skipif(django.VERSION < (5, 1), reason="pools came with Django 5.1")
def test_a_pool_hands_on_what_sql_changed(
    tenant: Any, elsewhere: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next DatabaseWrapper gets the raw connection with the search_path of the last one.

    What it reads is the tenant's, and nobody else's.
    """
    monkeypatch.setitem(tenant.settings_dict, "OPTIONS", {"pool": {"min_size": 1, "max_size": 1}})

    def name() -> str:
        with routing.routed_to("pg"):
            return str(Product.cached.get(pk=1).name)

    try:
        with tenant.cursor() as cursor:
            cursor.execute("SET search_path = tenant, public")
        tenant.close()
        assert elsewhere(name) == "the tenant's"
        tenant.close_pool()
        assert elsewhere(name) == "product 1"
    finally:
        tenant.close_pool()
        monkeypatch.undo()


def test_a_session_that_the_read_itself_changes(tenant: Any, is_cached: IsCached) -> None:
    """A backend may set the search_path where the first cursor is made: in a read."""

    class DatabaseWrapper(type(tenant)):  # type: ignore[misc]
        search_path = "tenant, public"

        def _cursor(self, name: str | None = None) -> Any:
            cursor = super()._cursor(name)
            if self.search_path:
                cursor.execute(f"SET search_path = {self.search_path}")
                self.search_path = ""
            return cursor

    connections["pg"] = DatabaseWrapper(tenant.settings_dict, "pg")
    with closing(connections["pg"]) as connection:
        assert Product.cached.get(pk=1).name == "the tenant's"
        connection.close()
        assert Product.cached.get(pk=1).name == "product 1"
        assert is_cached(lambda: Product.cached.get(pk=1))


def test_a_backend_for_tenants(tenant: Any, is_cached: IsCached) -> None:
    """django-tenants sets the search_path with the driver's own cursor: who cannot say whose
    rows are whose gets none from the cache."""

    class DatabaseWrapper(type(tenant)):  # type: ignore[misc]
        schema_name = "public"

        def _cursor(self, name: str | None = None) -> Any:
            cursor = super()._cursor(name)
            with self.connection.cursor() as raw:
                raw.execute(f"SET search_path = {self.schema_name}, public")
            return cursor

    connections["pg"] = DatabaseWrapper(tenant.settings_dict, "pg")
    names = {"public": "product 1", "tenant": "the tenant's"}

    @zoocache.cacheable(key=lambda: "")
    def first() -> str:
        return str(Product.cached.get(pk=1).name)

    def schema_of(connection: Any) -> str:
        return getattr(connection, "schema_name", "")

    def check(cached: bool) -> None:
        for connection.schema_name in [*names, *names]:
            name = names[connection.schema_name]
            assert Product.cached.get(pk=1).name == first() == name
            assert is_cached(lambda: Product.cached.get(pk=1)) is cached

    with closing(connections["pg"]) as connection:
        check(cached=False)
        with override_settings(ZOOCACHE={"SCOPE": schema_of}):
            check(cached=True)
