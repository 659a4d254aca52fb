"""Tests of users: TestCase wraps them in transactions, which count as if they were not there."""

from __future__ import annotations

import unittest
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from conftest import Worker
from django.db import connections, transaction
from django.test import TestCase, TransactionTestCase
from django.test.utils import CaptureQueriesContext
from shop import stock
from shop.models import Product, Tag

import zoocache
from zoocache import store


def name_of(manager: str = "cached", using: str | None = None) -> str:
    return str(getattr(Product, manager).using(using).get(pk=1).name)


def rename(name: str, using: str | None = None) -> None:
    Product.objects.using(using).filter(pk=1).update(name=name)


@zoocache.cacheable(deps=["Product:1"])
def function() -> str:
    return name_of("objects")


class Checks:
    """What the cases below have in common."""

    databases = frozenset(["default"])

    def cost(self, read: Callable[[], Any], using: str = "default") -> tuple[Any, int]:
        """What it gives, and with how many queries."""
        with CaptureQueriesContext(connections[using]) as captured:
            value = read()
        return value, len(captured)

    def assert_hit(self, read: Callable[[], Any], value: Any, using: str = "default") -> None:
        assert self.cost(read, using) == (value, 0)

    def assert_miss(self, read: Callable[[], Any], value: Any, using: str = "default") -> None:
        found, queries = self.cost(read, using)
        assert found == value
        assert queries > 0


@pytest.fixture(params=["sqlite", "postgres"])
def run(request: pytest.FixtureRequest) -> Iterator[Callable[..., None]]:
    """Runs cases as a test runner does: each class is a suite's, in the order of their names."""
    connection = request.getfixturevalue(request.param)

    def run(*cases: Any) -> None:
        connection.ensure_connection()
        suite = unittest.TestSuite()
        for case in cases:
            case.databases = frozenset([connection.alias])
            case.alias = connection.alias
            suite.addTests(unittest.defaultTestLoader.loadTestsFromTestCase(case))
        result = unittest.TestResult()
        suite.run(result)
        assert result.testsRun > 0
        assert [text for _, text in result.errors + result.failures] == []
        cache = store.cache()
        assert cache is not None
        assert cache.segment.check().lanes_taken == 0

    yield run
    # What the cases did was rolled back.
    assert list(Product.cached.filter(pk=1)) == list(Product.objects.filter(pk=1))


class Case(Checks, TestCase):
    alias = "default"

    @classmethod
    def setUpTestData(cls) -> None:
        Product.objects.create(pk=1, name="product 1")

    def hit(self, read: Callable[[], Any], value: Any) -> None:
        self.assert_hit(read, value, self.alias)

    def miss(self, read: Callable[[], Any], value: Any) -> None:
        self.assert_miss(read, value, self.alias)

    def atomic(self) -> Any:
        return transaction.atomic(using=self.alias)


def test_what_a_test_reads_is_cached(run: Any) -> None:
    class Reads(Case):
        def test_reads(self) -> None:
            for read in (name_of, function):
                self.miss(read, "product 1")
                self.hit(read, "product 1")

        def test_writes(self) -> None:
            for read in (name_of, function):
                rename("new")
                self.miss(read, "new")
                self.hit(read, "new")
                rename("newer")
                self.miss(read, "newer")
                self.hit(read, "newer")

    run(Reads)


def test_transactions_in_a_test(run: Any) -> None:
    class Transactions(Case):
        def test_commit(self) -> None:
            name_of(), function()
            with self.atomic():
                rename("new")
                for _ in range(2):  # as in production: not before the commit
                    self.miss(name_of, "new")
                    self.miss(function, "new")
            for read in (name_of, function):
                self.miss(read, "new")
                self.hit(read, "new")

        def test_rollback(self) -> None:
            name_of(), function()
            with pytest.raises(LookupError), self.atomic():
                self._rename_and_fail()
            for read in (name_of, function):  # a savepoint's rollback may cost a miss
                assert read() == "product 1"
                self.hit(read, "product 1")

        def _rename_and_fail(self) -> None:
            rename("never")
            self.miss(name_of, "never")
            self.miss(function, "never")
            raise LookupError

        def test_rollback_of_a_savepoint(self) -> None:
            name_of(), function()
            with self.atomic():
                rename("new")
                with pytest.raises(LookupError), self.atomic():
                    self._rename_and_fail()
                self.miss(name_of, "new")
            for read in (name_of, function):
                self.miss(read, "new")
                self.hit(read, "new")

        def test_what_a_transaction_read_is_kept(self) -> None:
            with self.atomic():
                self.miss(name_of, "product 1")
                self.hit(name_of, "product 1")
            self.hit(name_of, "product 1")

        def test_invalidate(self) -> None:
            name_of()
            zoocache.invalidate("Product:1")
            self.miss(name_of, "product 1")
            with self.atomic():
                zoocache.invalidate("Product:1")
                self.miss(name_of, "product 1")
            self.miss(name_of, "product 1")
            self.hit(name_of, "product 1")

    run(Transactions)


def test_nothing_leaks_from_test_to_test(run: Any) -> None:
    class First(Case):
        def test_1(self) -> None:
            rename("first")
            for read in (name_of, function):
                self.miss(read, "first")
                self.hit(read, "first")

        def test_2(self) -> None:
            for read in (name_of, function):
                self.miss(read, "product 1")
                self.hit(read, "product 1")

        def test_3(self) -> None:
            self.miss(name_of, "product 1")

    class Second(Case):
        @classmethod
        def setUpTestData(cls) -> None:
            super().setUpTestData()
            rename("second")
            assert name_of() == "second"

        def test_1(self) -> None:
            for read in (name_of, function):
                self.miss(read, "second")
                self.hit(read, "second")

    run(First, Second)


def test_nothing_leaks_out_of_tests(run: Any) -> None:
    """A developer's own site may use the database's rows, and a test run the same segment."""
    Product.objects.create(pk=1, name="product 1")
    assert name_of() == function() == "product 1"

    class Leaks(Case):
        @classmethod
        def setUpTestData(cls) -> None:
            rename("in the class")

        def test_leak(self) -> None:
            self.miss(name_of, "in the class")
            rename("in the test")
            assert name_of() == function() == "in the test"
            self.hit(name_of, "in the test")
            # A worker of the site sees what is committed, and stores it for its own kind only.
            if connections[self.alias].vendor == "postgresql":
                assert Worker(name_of).result() == Worker(name_of).result() == "product 1"
                assert Worker(function).result() == "product 1"
            self.hit(name_of, "in the test")
            self.hit(function, "in the test")

    run(Leaks)
    assert name_of() == function() == "product 1"


def test_on_commit(run: Any) -> None:
    class Hooks(Case):
        def test_hooks(self) -> None:
            seen = []
            name_of()
            capture = self.captureOnCommitCallbacks(using=self.alias, execute=True)
            with capture as callbacks, self.atomic():
                rename("new")
                transaction.on_commit(
                    lambda: seen.append((name_of(), function())), using=self.alias
                )
            assert len(callbacks) == 1
            assert seen == [("new", "new")]
            self.hit(name_of, "new")

    run(Hooks)


def test_subtests(run: Any) -> None:
    class Subtests(Case):
        def test_subtests(self) -> None:
            for number in range(3):
                with self.subTest(number=number):
                    rename(f"new {number}")
                    self.miss(name_of, f"new {number}")
                    self.hit(name_of, f"new {number}")

    run(Subtests)


def test_asynchronous_tests(run: Any) -> None:
    class Asynchronous(Case):
        async def test_reads(self) -> None:
            assert (await Product.cached.aget(pk=1)).name == "product 1"
            await Product.objects.filter(pk=1).aupdate(name="new")
            assert (await Product.cached.aget(pk=1)).name == "new"
            await sync_to_async(self.hit)(name_of, "new")
            assert await sync_to_async(function)() == "new"
            await sync_to_async(self.hit)(function, "new")

        async def test_reads_again(self) -> None:
            await sync_to_async(self.miss)(name_of, "product 1")
            assert await sync_to_async(function)() == "product 1"

    run(Asynchronous)


def test_a_transaction_test_case(run: Any) -> None:
    class Committing(Checks, TransactionTestCase):
        alias = "default"
        available_apps = ["shop", "django.contrib.contenttypes"]

        def test_1(self) -> None:
            stock.fill()
            name_of()
            self.assert_hit(name_of, "product 1", self.alias)
            with transaction.atomic(using=self.alias):
                rename("new")
                self.assert_miss(name_of, "new", self.alias)
            self.assert_miss(name_of, "new", self.alias)
            assert function() == "new"

        def test_2(self) -> None:
            """The tables were flushed."""
            assert list(Product.cached.filter(pk=1)) == []
            stock.fill()
            first = Product.objects.earliest("pk").pk
            assert Product.cached.get(pk=first).name == "product 1"

    run(Committing)


def test_what_pytest_djangos_fixture_makes(sqlite: Any, queries: Callable[..., Any]) -> None:
    """`db` sets a TestCase up that has no methods, and runs fixtures and test inside."""
    sqlite.ensure_connection()
    for name in ("first", "second"):
        made = type("Made", (TestCase,), {"databases": frozenset(["default"])})
        made.setUpClass()
        try:
            case = made("__init__")
            case._pre_setup()
            try:
                Product.objects.create(pk=1, name=name)
                assert name_of() == function() == name
                with queries(0):
                    assert name_of() == function() == name
            finally:
                case._post_teardown()
        finally:
            made.tearDownClass()
            made.doClassCleanups()
    assert not Product.cached.filter(pk=1).exists()


def test_two_databases(sqlite: Any, rollback: Any) -> None:
    """Each has blocks and a namespace of its own; a plain one beside them is a plain one."""

    class Two(Checks, TestCase):
        databases = frozenset(["default", "other"])

        @classmethod
        def setUpTestData(cls) -> None:
            for alias in ("default", "other"):
                Tag.objects.using(alias).create(pk=1, name=f"of {alias}")

        def read(self, alias: str) -> str:
            return str(Tag.cached.using(alias).get(pk=1).name)

        def test_1(self) -> None:
            for alias in ("default", "other"):
                self.assert_miss(lambda: self.read(alias), f"of {alias}", alias)  # noqa: B023
                self.assert_hit(lambda: self.read(alias), f"of {alias}", alias)  # noqa: B023
            with transaction.atomic(using="other"):
                Tag.objects.using("other").update(name="new")
                assert self.read("other") == "new"
            self.assert_miss(lambda: self.read("other"), "new", "other")
            self.assert_hit(lambda: self.read("other"), "new", "other")
            assert self.read("default") == "of default"

        def test_2(self) -> None:
            assert [self.read(alias) for alias in ("other", "default")] == [
                "of other", "of default",
            ]  # fmt: skip

    for connection in (sqlite, rollback):
        connection.ensure_connection()
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Two).run(result)
    assert [text for _, text in result.errors + result.failures] == []
    assert list(Tag.cached.using("other").all()) == list(Tag.objects.using("default").all()) == []
