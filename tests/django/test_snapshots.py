"""Snapshots, and the middleware for requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections, router, transaction
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings
from shop import routing, stock
from shop.models import Product

from zoocache import config
from zoocache.contrib.django.middleware import ReadYourWritesMiddleware, SnapshotMiddleware
from zoocache.contrib.django.routers import ReadYourWritesRouter
from zoocache.contrib.django.snapshots import snapshot

Elsewhere = Callable[[Callable[[], Any]], Any]


def name(manager: str = "cached") -> str:
    return str(getattr(Product, manager).get(pk=1).name)


def rename(to: str) -> None:
    Product.objects.filter(pk=1).update(name=to)


def refill() -> None:
    """Another worker writes, and fills the cache with what is new."""
    rename("new")
    assert name() == "new"


class TestSnapshot:
    def test_hits_and_reads_agree(self, shop: Any, elsewhere: Elsewhere) -> None:
        old = name()
        with snapshot(using=routing.active):
            elsewhere(refill)
            assert (name(), name("objects"), name()) == (old, old, old)
        assert name() == "new"

    def test_an_entry_from_before_is_served(self, shop: Any, queries: Callable[..., Any]) -> None:
        name()
        with snapshot(using=routing.active), queries(0):
            name()

    def test_what_is_filled_in_it_is_as_old_as_it_is(self, shop: Any, elsewhere: Elsewhere) -> None:
        with snapshot(using=routing.active):
            elsewhere(lambda: rename("new"))
            assert name() != "new"
        assert name() == "new"

    def test_inside_a_transaction_it_does_nothing(
        self, shop: Any, queries: Callable[..., Any]
    ) -> None:
        with transaction.atomic(using=routing.active), queries(0), snapshot(using=routing.active):
            pass

    def test_the_connection_caches_afterwards(self, shop: Any, queries: Callable[..., Any]) -> None:
        with snapshot(using=routing.active):
            pass
        name()
        with queries(0):
            name()


class TestSnapshotMiddleware:
    @pytest.fixture(autouse=True)
    def _default(self, sqlite: Any) -> None:
        stock.fill()

    def test_two_lists_of_a_page_agree(self, elsewhere: Elsewhere) -> None:
        def view(request: HttpRequest) -> HttpResponse:
            first = [p.name for p in Product.cached.filter(pk=1)]
            elsewhere(refill)
            second = [p.name for p in Product.cached.order_by("name") if p.pk == 1]
            return HttpResponse(str(first == second))

        response = SnapshotMiddleware(view)(RequestFactory().get("/"))
        assert response.content == b"True"
        assert not connections["default"].in_atomic_block

    def test_unsafe_requests_go_as_ever(self) -> None:
        def view(request: HttpRequest) -> HttpResponse:
            return HttpResponse(str(connections["default"].in_atomic_block))

        response = SnapshotMiddleware(view)(RequestFactory().post("/"))
        assert response.content == b"False"


class Replicas:
    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "replica"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"


class TestReadYourWrites:
    @pytest.fixture(autouse=True)
    def _replicas(self, sqlite: Any) -> Iterator[None]:
        stock.fill()
        with override_settings(
            ZOOCACHE={"MAX_LAG": {"replica": 5}},
            DATABASE_ROUTERS=[ReadYourWritesRouter(), Replicas()],
        ):
            config.changed()
            yield
        config.changed()

    def middleware(self, *, writes: bool = False) -> Callable[[HttpRequest], Any]:
        def view(request: HttpRequest) -> HttpResponse:
            before = router.db_for_read(Product)
            if writes:
                Product.objects.using("default").filter(pk=1).update(name="mine")
            return HttpResponse(f"{before} {router.db_for_read(Product)}")

        return ReadYourWritesMiddleware(view)

    def test_who_has_not_written_reads_the_replica(self) -> None:
        response = self.middleware()(RequestFactory().get("/"))
        assert response.content == b"replica replica"
        assert not response.cookies

    def test_who_writes_reads_the_primary_at_once_and_in_later_requests(self) -> None:
        response = self.middleware(writes=True)(RequestFactory().post("/"))
        assert response.content == b"replica default"
        request = RequestFactory().get("/")
        request.COOKIES = {key: morsel.value for key, morsel in response.cookies.items()}
        again = self.middleware()(request)
        assert again.content == b"default default"
        assert router.db_for_read(Product) == "replica"

    def test_until_the_lag_is_over(self, monkeypatch: pytest.MonkeyPatch) -> None:
        response = self.middleware(writes=True)(RequestFactory().post("/"))
        request = RequestFactory().get("/")
        request.COOKIES = {key: morsel.value for key, morsel in response.cookies.items()}
        written = float(next(iter(request.COOKIES.values())))
        monkeypatch.setattr("time.time", lambda: written + 5.1)
        assert self.middleware()(request).content == b"replica replica"

    @pytest.mark.parametrize("value", ["", "x", "nan", "inf", "-inf", "1e999"])
    def test_a_cookie_of_anything(self, value: str) -> None:
        request = RequestFactory().get("/")
        request.COOKIES = {"zoocache_written": value}
        assert self.middleware()(request).status_code == 200

    def test_a_rollback_is_no_write(self) -> None:
        def view(request: HttpRequest) -> HttpResponse:
            with transaction.atomic(using="default"):
                Product.objects.using("default").filter(pk=1).update(name="mine")
                transaction.set_rollback(True, using="default")
            return HttpResponse()

        response = ReadYourWritesMiddleware(view)(RequestFactory().post("/"))
        assert not response.cookies
