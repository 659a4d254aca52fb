"""What is known to be missing still. Each test fails today, and must be moved when it passes."""

from __future__ import annotations

import unittest
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Worker
from django.db import connections, transaction
from django.test import TestCase
from shop import routing, stock
from shop.models import Product, Tag

from zoocache import points
from zoocache.contrib.django.connection import ConnectionState

Elsewhere = Callable[[Callable[[], Any]], Any]


def name_of(manager: str = "cached") -> str:
    return getattr(Product, manager).get(pk=1).name


def rename(name: str) -> None:
    product = Product.objects.get(pk=1)
    product.name = name
    product.save()


@pytest.fixture
def shop(db: Any) -> Any:
    stock.fill()
    return db


@pytest.mark.xfail(strict=True, reason="writes are not announced before COMMIT yet")
@pytest.mark.parametrize("atomic", [True, False], ids=["transaction", "autocommit"])
def test_a_read_between_a_commit_and_its_invalidation(
    atomic: bool,
    shop: Any,
    monkeypatch: pytest.MonkeyPatch,
    queries: Callable[..., Any],
) -> None:
    publish = ConnectionState.publish

    def slow(self: ConnectionState) -> None:
        if self.tags:
            points.reach("committed")
        publish(self)

    def work() -> None:
        if atomic:
            with transaction.atomic(using=routing.active):
                rename("new")
        else:
            Product.objects.filter(pk=1).update(name="new")

    name_of()
    with queries(0):
        name_of()
    monkeypatch.setattr(ConnectionState, "publish", slow)
    writer = Worker(work, pause_at="committed")
    seen = name_of("objects"), name_of()
    writer.result()
    assert name_of() == "new"
    assert seen == ("new", "new")


@pytest.mark.xfail(strict=True, reason="a hit is not compared with the transaction's snapshot yet")
def test_a_hit_in_a_transaction_is_not_newer_than_its_snapshot(
    sqlite: Any, elsewhere: Elsewhere
) -> None:
    stock.fill()
    with transaction.atomic():
        list(Tag.objects.all())
        elsewhere(lambda: (rename("new"), name_of()))
        assert name_of() == name_of("objects")


@pytest.mark.xfail(strict=True, reason="a TestCase's transaction counts as one yet")
def test_a_test_case_that_wrote_its_fixtures_caches(
    sqlite: Any, queries: Callable[..., Any]
) -> None:
    class Case(TestCase):
        databases = frozenset(["default"])

        @classmethod
        def setUpTestData(cls) -> None:
            stock.fill()

        def runTest(self) -> None:
            name_of()
            with queries(0):
                name_of()

    connections["default"].ensure_connection()
    result = unittest.TestResult()
    unittest.TestSuite([Case()]).run(result)
    assert result.testsRun == 1
    assert not result.errors
    assert [text for _, text in result.failures] == []
