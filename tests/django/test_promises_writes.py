"""Promises 21 and 22: every write is seen, after its commit and not before."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import pytest
from conftest import empty
from django.db import IntegrityError, connections, transaction
from django.db.models import F
from django.http import HttpResponse
from django.test import Client, override_settings
from django.urls import path
from shop import routing, stock
from shop.models import Brand, Category, Product, Tag
from shop.reads import CACHED, cached, outcome, plain
from shop.routing import atomic
from shop.stock import name_of, rename
from shop.writes import WRITES

Queries = Callable[..., Any]
Elsewhere = Callable[[Callable[[], Any]], Any]


# 21: every write; test_matrix.py has each of them against each shape of read


@pytest.mark.parametrize("name", [name for name in WRITES if name != "nothing"])
def test_21_every_write(name: str, sqlite: Any, elsewhere: Elsewhere) -> None:
    """Fresh in this worker and in others."""
    stock.fill()
    shapes = ["all", "by category", "get", "prefetch many", "page's count", "child", "count"]
    for shape in shapes:
        outcome(CACHED[shape], cached)
    WRITES[name]()
    for shape in shapes:
        expected = outcome(CACHED[shape], plain)
        assert elsewhere(lambda shape=shape: outcome(CACHED[shape], cached)) == expected
        assert outcome(CACHED[shape], cached) == expected


def test_21_sql_that_a_field_runs_while_it_is_saved(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []  # Django 6.1 asks twice when it creates

    def pre_save(self: Any, instance: Any, add: bool) -> Any:
        calls.append(add)
        with connections[routing.active].cursor() as cursor:
            cursor.execute("UPDATE shop_category SET rank = rank + 1")
        return instance.name

    rank = Category.cached.get(pk=1).rank
    monkeypatch.setattr(type(Tag._meta.get_field("name")), "pre_save", pre_save)
    tag = Tag.objects.create(name="x")
    assert Category.cached.get(pk=1).rank == rank + len(calls) > rank
    calls.append(tag.save())
    assert Category.cached.get(pk=1).rank == rank + len(calls) - 1


def test_21_sql_that_an_execute_wrapper_runs(shop: Any) -> None:
    connection = connections[routing.active]
    busy = []

    def wrapper(execute: Any, *args: Any) -> Any:
        if not busy:
            busy.append(1)
            with connection.cursor() as cursor:
                cursor.execute("UPDATE shop_category SET rank = rank + 1")
            busy.clear()
        return execute(*args)

    rank = Category.cached.get(pk=1).rank
    with connection.execute_wrapper(wrapper):
        list(Tag.objects.all())
    assert Category.cached.get(pk=1).rank == rank + 1


def test_21_a_write_in_a_signal_handler(shop: Any) -> None:
    from django.db.models.signals import post_save, pre_save

    def handler(sender: Any, instance: Any, **kwargs: Any) -> None:
        Category.objects.update(rank=F("rank") + 1)

    for signal in (pre_save, post_save):
        rank = Category.cached.get(pk=1).rank
        signal.connect(handler, sender=Tag)
        try:
            Tag.objects.create(name="x")
        finally:
            signal.disconnect(handler, sender=Tag)
        assert Category.cached.get(pk=1).rank == rank + 1


def test_21_a_failed_write(shop: Any) -> None:
    name_of()
    for failing in (
        lambda: Product.objects.create(pk=1, name="x"),
        lambda: Brand.objects.filter(code="ACME").update(code="acme"),
    ):
        with pytest.raises(IntegrityError):
            failing()
    assert name_of() == "product 1"


# 22: commits


def test_22_before_commit_and_after(shop: Any, elsewhere: Elsewhere, queries: Queries) -> None:
    name_of()
    with atomic():
        rename("new")
        assert elsewhere(name_of) == "product 1"
        assert name_of() == "new"
        with queries(1):  # its own write is not for the cache
            assert name_of() == "new"
        assert elsewhere(name_of) == "product 1"
    assert elsewhere(name_of) == name_of() == "new"


def test_22_a_rollback_changes_nothing(shop: Any, elsewhere: Elsewhere, queries: Queries) -> None:
    name_of()
    with pytest.raises(LookupError), atomic():  # noqa: PT012
        rename("never")
        assert name_of() == "never"
        raise LookupError
    with queries(0):
        assert name_of() == "product 1"
    assert elsewhere(name_of) == "product 1"


def test_22_savepoints(shop: Any, elsewhere: Elsewhere) -> None:
    name_of(1), name_of(2)
    with atomic():
        rename("outer", 1)
        with pytest.raises(LookupError), atomic():  # noqa: PT012
            rename("inner", 2)
            assert name_of(2) == "inner"
            raise LookupError
        assert name_of(2) == "product 2"
        assert name_of(1) == "outer"
        assert elsewhere(lambda: (name_of(1), name_of(2))) == ("product 1", "product 2")
    assert elsewhere(lambda: (name_of(1), name_of(2))) == ("outer", "product 2")


def test_22_per_alias(sqlite: Any, queries: Queries) -> None:
    other = connections["other"]
    empty(other)
    Tag.objects.create(pk=1, name="here")
    Tag.objects.using("other").create(pk=1, name="there")
    try:
        with pytest.raises(LookupError), transaction.atomic(using="other"):  # noqa: PT012
            Tag.objects.using("other").update(name="never")
            assert Tag.cached.using("other").get(pk=1).name == "never"
            assert Tag.cached.get(pk=1).name == "here"
            with queries(0):
                assert Tag.cached.get(pk=1).name == "here"
            raise LookupError
        assert Tag.cached.using("other").get(pk=1).name == "there"
        with transaction.atomic(using="other"):
            Tag.objects.using("other").update(name="new")
        assert Tag.cached.using("other").get(pk=1).name == "new"
    finally:
        other.close()


def test_22_a_hook_that_raises_does_not_stop_it(shop: Any, elsewhere: Elsewhere) -> None:
    def fail() -> None:
        raise LookupError

    name_of()
    with pytest.raises(LookupError), atomic():  # noqa: PT012
        transaction.on_commit(fail, using=routing.active)
        rename("new")
    assert elsewhere(name_of) == name_of() == "new"


def test_22_atomic_requests(
    shop: Any, elsewhere: Elsewhere, queries: Queries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A view that raises is rolled back; a hook that raises comes after the COMMIT."""
    alias = shop.alias

    def fail() -> None:
        raise LookupError

    def view(request: Any, name: str) -> HttpResponse:
        transaction.on_commit(fail, using=alias)
        rename(name)
        return fail() if name == "never" else HttpResponse(name_of())

    urls = types.ModuleType("urls")
    urls.urlpatterns = [path("<name>", view)]  # type: ignore[attr-defined]
    monkeypatch.setitem(connections.settings[alias], "ATOMIC_REQUESTS", True)
    name_of()
    with override_settings(ROOT_URLCONF=urls):
        client = Client(raise_request_exception=False)
        assert client.get("/never").status_code == 500
        with queries(0):
            assert name_of() == "product 1"
        assert client.get("/new").status_code == 500
    assert elsewhere(name_of) == name_of() == "new"


def test_22_a_hook_sees_fresh_rows(shop: Any) -> None:
    seen = []
    name_of()
    with atomic():
        transaction.on_commit(lambda: seen.append(name_of()), using=routing.active)
        rename("new")
    assert seen == ["new"]


def test_22_durable(shop: Any, elsewhere: Elsewhere) -> None:
    name_of()
    with atomic(durable=True):
        rename("new")
        assert elsewhere(name_of) == "product 1"
    assert elsewhere(name_of) == name_of() == "new"


def test_22_without_autocommit(shop: Any, elsewhere: Elsewhere) -> None:
    name_of()
    transaction.set_autocommit(False, using=routing.active)
    try:
        rename("new")
        assert elsewhere(name_of) == "product 1"
        transaction.commit(using=routing.active)
        assert elsewhere(name_of) == "new"
        rename("never")
        assert name_of() == "never"
        transaction.rollback(using=routing.active)
        assert name_of() == "new"
    finally:
        transaction.rollback(using=routing.active)
        transaction.set_autocommit(True, using=routing.active)
    assert elsewhere(name_of) == name_of() == "new"


def test_22_clean_tables_are_cached_in_a_transaction(shop: Any, queries: Queries) -> None:
    name_of()
    with atomic():
        Tag.objects.update(name="x")
        with queries(0):
            name_of()
        list(Category.cached.all())
        with queries(0):
            list(Category.cached.all())


def test_22_a_commit_that_fails(postgres: Any, elsewhere: Elsewhere) -> None:
    """A deferred constraint is checked at COMMIT."""
    stock.fill()
    read = CACHED["by category"]
    before = outcome(read, cached)
    with pytest.raises(IntegrityError), atomic():
        Product.objects.filter(pk=1).update(category=12345)
    assert outcome(read, cached) == before == elsewhere(lambda: outcome(read, cached))
