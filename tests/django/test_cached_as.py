"""Functions and views that depend on querysets: cached_as and cached_view_as."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.middleware.csrf import get_token
from django.template import engines
from django.template.response import TemplateResponse
from django.test import RequestFactory
from django.utils import timezone, translation
from shop import routing, stock
from shop.models import Book, Category, Product, Store, Tag

import zoocache
from zoocache.contrib.django import cached_as, cached_view_as

Elsewhere = Callable[[Callable[[], Any]], Any]


@pytest.fixture
def calls() -> list[Any]:
    return []


def rename(model: Any, pk: Any, name: str) -> None:
    instance = model.objects.get(pk=pk)
    instance.name = name
    instance.save()


# cached_as


@pytest.mark.parametrize(
    "sample",
    [
        lambda: Product,
        lambda: Product.objects,
        lambda: Product.objects.all(),
        lambda: Product.cached.filter(name__startswith="p"),
        lambda: Product.objects.filter(pk=1),
        lambda: Product.objects.get(pk=1),
        lambda: lambda: Product.objects.filter(pk=1),
        lambda: lambda: [Tag, Product.objects.filter(pk=1)],
    ],
)
def test_what_a_sample_reads_drops_the_result(
    sample: Callable[[], Any], shop: Any, calls: list[Any]
) -> None:
    @cached_as(sample())
    def function() -> int:
        calls.append(1)
        return len(calls)

    assert function() == function() == 1
    rename(Store, 1, "not read")
    assert function() == 1
    rename(Product, 1, "new")
    assert function() == function() == 2


def test_a_narrow_sample_leaves_the_rest_alone(shop: Any, calls: list[Any]) -> None:
    @cached_as(lambda pk: Product.objects.filter(pk=pk))
    def function(pk: int) -> int:
        calls.append(pk)
        return len(calls)

    assert [function(1), function(2), function(1)] == [1, 2, 1]
    rename(Product, 2, "new")
    assert [function(1), function(2)] == [1, 3]


def test_a_row_that_enters_drops_the_result(shop: Any, calls: list[Any]) -> None:
    @cached_as(Product.objects.filter(category_id=1))
    def function() -> int:
        return Product.objects.filter(category_id=1).count()

    before = function()
    Product.objects.create(name="one more", category_id=1)
    assert function() == before + 1


def test_samples_are_not_run(shop: Any, queries: Callable[..., Any]) -> None:
    function = cached_as(Product.objects.filter(pk=1), Category)(lambda: 1)
    with queries(0):
        assert function() == 1


def test_what_is_read_inside_counts_as_well(shop: Any) -> None:
    @cached_as(Tag)
    def function() -> str:
        return Store.objects.none() or Product.cached.get(pk=1).name

    assert function() == "product 1"
    rename(Product, 1, "new")
    assert function() == "new"


def test_a_multi_table_child_depends_on_its_parent(shop: Any, calls: list[Any]) -> None:
    book = Book.objects.first()

    @cached_as(book)
    def function() -> int:
        calls.append(1)
        return len(calls)

    assert function() == 1
    Product.objects.filter(pk=book.pk).update(name="new")
    assert function() == 2


def test_a_query_that_is_never_cached_still_names_its_tables(shop: Any, calls: list[Any]) -> None:
    @cached_as(Product.objects.order_by("?"))
    def function() -> int:
        calls.append(1)
        return len(calls)

    assert function() == function() == 1
    rename(Product, 1, "new")
    assert function() == 2


def test_other_workers_share_it(shop: Any, calls: list[Any], elsewhere: Elsewhere) -> None:
    @cached_as(Product)
    def function() -> int:
        calls.append(1)
        return len(calls)

    assert function() == elsewhere(function) == 1
    elsewhere(lambda: rename(Product, 1, "new"))
    assert function() == 2


def test_in_a_transaction_that_has_written(shop: Any, calls: list[Any]) -> None:
    @cached_as(Product)
    def function() -> str:
        return Product.objects.get(pk=1).name

    assert function() == "product 1"
    with transaction.atomic(using=routing.active):
        rename(Product, 1, "new")
        assert function() == "new"
    assert function() == "new"


def test_async_functions(shop: Any, calls: list[Any]) -> None:
    @cached_as(Product)
    async def function() -> int:
        calls.append(1)
        return len(calls)

    read = async_to_sync(function)
    assert read() == read() == 1
    rename(Product, 1, "new")
    assert read() == 2


@pytest.mark.parametrize("sample", [None, "Product", 3, dict])
def test_other_samples_are_refused(sample: Any) -> None:
    with pytest.raises(TypeError, match="querysets, models, managers"):
        cached_as(sample)


def test_a_function_that_returns_no_sample_is_refused(shop: Any) -> None:
    with pytest.raises(TypeError, match="querysets, models, managers"):
        cached_as(lambda: "Product")(lambda: 1)()


# The request's start


def test_what_was_loaded_before_the_call_counts_from_the_request(
    shop: Any, in_a_request: None, elsewhere: Elsewhere, calls: list[Any]
) -> None:
    product = Product.objects.get(pk=1)
    elsewhere(lambda: rename(Product, 1, "new"))

    @zoocache.cacheable(deps=["Product:1"], key=lambda given: given.pk)
    def shown(given: Any) -> str:
        calls.append(1)
        return given.name

    assert shown(product) == "product 1"  # what the caller has
    assert elsewhere(lambda: shown(Product.objects.get(pk=1))) == "new"
    assert len(calls) == 2


# cached_view_as


def get(path: str = "/", **headers: str) -> Any:
    return RequestFactory().get(path, headers=headers)


@pytest.fixture
def view(shop: Any, calls: list[Any]) -> Callable[..., Any]:
    @cached_view_as()
    def view(request: Any, pk: int = 1) -> HttpResponse:
        calls.append(pk)
        response = HttpResponse(Product.objects.get(pk=pk).name)
        response["X-Shop"] = "zoo"
        return response

    return view


def test_a_view_depends_on_what_it_reads(view: Any, calls: list[Any]) -> None:
    assert [view(get()).content for _ in range(2)] == [b"product 1"] * 2
    assert view(get())["X-Shop"] == "zoo"
    assert view(get()).status_code == 200
    assert len(calls) == 1
    rename(Product, 2, "other")
    assert len(calls) == 1
    rename(Product, 1, "new")
    assert view(get()).content == b"new"


def test_samples_of_a_view_get_its_arguments(shop: Any, calls: list[Any]) -> None:
    @cached_view_as(lambda request, pk, *, kind: Product.objects.filter(pk=pk, name=kind))
    def view(request: Any, pk: int, *, kind: str) -> HttpResponse:
        calls.append(pk)
        return HttpResponse("x")

    for _ in range(2):
        view(get(), 1, kind="a")
    rename(Product, 2, "other")
    view(get(), 1, kind="a")
    assert len(calls) == 1
    rename(Product, 1, "new")
    view(get(), 1, kind="a")
    assert len(calls) == 2


def test_responses_are_the_callers_own(view: Any) -> None:
    view(get())
    response = view(get())
    response["X-Shop"] = "changed"
    response.set_cookie("a", "b")
    assert view(get())["X-Shop"] == "zoo"
    assert not view(get()).cookies


def test_what_tells_responses_apart(view: Any, calls: list[Any]) -> None:
    view(get())
    for request, pk in ((get("/?page=2"), 1), (get("/other"), 1), (get(), 2)):
        view(request, pk=pk)
    view(RequestFactory().head("/"))
    with translation.override("fr"):
        view(get())
    with timezone.override("Asia/Tokyo"):
        view(get())
    assert len(calls) == 7
    view(get())
    assert len(calls) == 7


def test_headers_that_it_varies_on(shop: Any, calls: list[Any]) -> None:
    @cached_view_as(Product, vary_on=["Accept"])
    def view(request: Any) -> HttpResponse:
        calls.append(1)
        response = HttpResponse(request.headers.get("Accept", "none"))
        response["Vary"] = "Accept"
        return response

    for _ in range(2):
        for accept in ("a/b", "c/d"):
            assert view(get(Accept=accept)).content == accept.encode()
    assert len(calls) == 2


def with_user(request: Any) -> Any:
    from django.utils.functional import SimpleLazyObject

    def load() -> Any:
        request._cached_user = SimpleNamespace(name="ann")
        return request._cached_user

    request.user = SimpleLazyObject(load)
    return request


PERSONAL: dict[str, Callable[[Any], Any]] = {
    "cookie": lambda r: HttpResponse(r.COOKIES.get("a", "")),
    "cookies iterated": lambda r: HttpResponse(str(list(r.COOKIES))),
    "cookie in": lambda r: HttpResponse(str("a" in r.COOKIES)),
    "user": lambda r: HttpResponse(with_user(r).user.name),
    "csrf": lambda r: HttpResponse(get_token(r)),
    "sets a cookie": lambda r: _with_cookie(HttpResponse("x")),
    "not found": lambda r: HttpResponse("x", status=404),
    "private": lambda r: HttpResponse("x", headers={"Cache-Control": "private"}),
    "no-store": lambda r: HttpResponse("x", headers={"Cache-Control": "no-store"}),
    "varies": lambda r: HttpResponse("x", headers={"Vary": "Cookie"}),
    "varies on another": lambda r: HttpResponse("x", headers={"Vary": "X-Tenant"}),
    "streams": lambda r: StreamingHttpResponse(iter([b"x"])),
    "reads what cannot be known": lambda r: HttpResponse(str(Product.objects.order_by("?")[0])),
    "session": lambda r: HttpResponse(str(r.session.get("a"))),
}


def _with_cookie(response: Any) -> Any:
    response.set_cookie("a", "b")
    return response


@pytest.mark.parametrize("which", PERSONAL)
def test_what_may_be_one_users_is_not_kept(
    which: str, sqlite: Any, calls: list[Any], settings_of_sessions: Any
) -> None:
    stock.fill()

    @cached_view_as(lambda request: which and [])
    def view(request: Any) -> Any:
        calls.append(1)
        return PERSONAL[which](request)

    for _ in range(2):
        request = get()
        request.session = settings_of_sessions()
        assert view(request) is not None
    assert len(calls) == 2, which


@pytest.fixture
def settings_of_sessions() -> Any:
    from django.contrib.sessions.backends.signed_cookies import SessionStore

    return SessionStore


def test_other_methods_and_requests_that_are_known(view: Any, calls: list[Any]) -> None:
    for request in (
        RequestFactory().post("/"),
        get(Authorization="Basic abc"),
        _known(get()),
    ):
        for _ in range(2):
            view(request)
    assert len(calls) == 6


def test_a_host_that_is_not_allowed_is_the_views_to_judge(view: Any, calls: list[Any]) -> None:
    for _ in range(2):
        assert view(RequestFactory(SERVER_NAME="elsewhere").get("/")).content == b"product 1"
    assert len(calls) == 2


def _known(request: Any) -> Any:
    request._cached_user = object()
    return request


def test_a_session_that_was_looked_at_before_stays_so(shop: Any, settings_of_sessions: Any) -> None:
    @cached_view_as(Product)
    def view(request: Any) -> HttpResponse:
        return HttpResponse("x")

    request = get()
    request.session = settings_of_sessions()
    request.session.get("a")
    view(request)
    assert request.session.accessed
    assert type(request.COOKIES) is dict


def test_templates_and_json(shop: Any, calls: list[Any]) -> None:
    template = engines["django"].from_string("{{ products.0.name }}")

    @cached_view_as()
    def page(request: Any) -> Any:
        calls.append(1)
        return TemplateResponse(request, template, {"products": Product.objects.order_by("pk")})

    @cached_view_as()
    def json(request: Any) -> Any:
        calls.append(1)
        return JsonResponse({"n": Tag.objects.count()})

    for _ in range(2):
        assert page(get()).content == b"product 1"
        assert json(get())["Content-Type"] == "application/json"
    assert len(calls) == 2
    rename(Product, 1, "new")
    assert page(get()).content == b"new"


def test_an_exception_stays_with_its_request(shop: Any, calls: list[Any]) -> None:
    @cached_view_as(Product)
    def view(request: Any) -> HttpResponse:
        calls.append(1)
        if len(calls) == 1:
            raise LookupError
        return HttpResponse("x")

    with pytest.raises(LookupError):
        view(get())
    assert view(get()).content == b"x"


def test_async_views_are_refused() -> None:
    async def view(request: Any) -> HttpResponse:
        return HttpResponse("x")

    with pytest.raises(TypeError, match="sync views"):
        cached_view_as(Product)(view)
