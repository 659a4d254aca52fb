"""The pytest plugin in projects of users: real runs of pytest, under xdist, and with Django."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from zoocache.shm import MIN_SIZE, Segment, path_of, unlink
from zoocache.testing import isolated

pytest_plugins = "pytester"


SHOP = """
from django.db import models
from zoocache.contrib.django import ZooCacheManager

class Shelf(models.Model):
    name = models.CharField(max_length=20)
    made = models.DateTimeField(auto_now_add=True)
    objects = ZooCacheManager()

    class Meta:
        app_label = "shop"

class Book(models.Model):
    shelf = models.ForeignKey(Shelf, models.CASCADE)
    objects = ZooCacheManager()

    class Meta:
        app_label = "shop"
"""

SETTINGS = """
SECRET_KEY = "only for tests"
INSTALLED_APPS = ["shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3"}}
CACHES = {"default": {"BACKEND": "zoocache.contrib.django.cache.ZooCache", "LOCATION": "sessions"}}
USE_TZ = True
"""

WITH_PYTEST_DJANGO = """
import os
import pytest
from django.core.cache import cache
from django.db import transaction
from django.test import TestCase, override_settings
from shop.models import Book, Shelf
import zoocache as package

@pytest.fixture
def shelf(db):
    return Shelf.objects.create(name="first")

@pytest.mark.parametrize("n", range(4))
def test_a_test_begins_with_no_rows_in_the_cache(n, shelf, zoocache):
    assert cache.add("n", n)  # in a segment of another name, which is isolated, too
    assert [one.name for one in Shelf.cached.all()] == ["first"]
    counts = zoocache.stats()
    assert (counts["sets"], counts["hits"] + counts["local"]) == (1, 0)

def test_assert_cached(shelf, assert_cached):
    with pytest.raises(AssertionError, match="1 queries of the database, 0 hits") as e:
        with assert_cached():
            list(Shelf.cached.all())
    assert "never stored" in str(e.value) and "default: SELECT" in str(e.value)
    with assert_cached(hits=1):
        list(Shelf.cached.all())
    with pytest.raises(AssertionError, match="not cached, because"):
        with assert_cached():
            list(Shelf.cached.order_by("?"))
    with pytest.raises(AssertionError, match="1 queries"):
        with assert_cached():
            list(Shelf.cached.all()), list(Shelf.objects.all())
    with assert_cached(hits=1), transaction.atomic():
        list(Shelf.cached.all())

def test_assert_invalidates(shelf, assert_invalidates):
    other = Shelf.objects.create(name="other")
    book = Book.objects.create(shelf=shelf)
    of_first = Shelf.cached.filter(name="first")
    with assert_invalidates(shelf, Shelf, f"Shelf:{shelf.pk}", "shop.Shelf", of_first):
        shelf.name = "second"
        shelf.save()
    with pytest.raises(AssertionError, match=f"shop.Shelf:{other.pk}: what"):
        with assert_invalidates(shelf, other):
            shelf.save()
    with pytest.raises(AssertionError, match="queryset of shop.Book: it is served"):
        with assert_invalidates(Book.cached.all()):
            shelf.save()
    with pytest.raises(AssertionError, match="not cached, whatever"):
        with assert_invalidates(Book.objects.all()):
            book.save()
    with pytest.raises(AssertionError, match="transaction ends after|served as before"):
        with transaction.atomic():
            with assert_invalidates(shelf):
                shelf.save()
    with pytest.raises(TypeError, match="not saved"):
        with assert_invalidates(Shelf()):
            pass

@pytest.mark.django_db(transaction=True)
def test_real_transactions(assert_cached, assert_invalidates):
    with assert_invalidates(Shelf):
        with transaction.atomic():
            shelf = Shelf.objects.create(name="real")
    assert Shelf.cached.get(pk=shelf.pk).name == "real"
    with assert_cached(hits=1):
        assert Shelf.cached.get(pk=shelf.pk).name == "real"

def test_settings(shelf, settings, zoocache, assert_cached):
    name = zoocache.name
    assert Shelf.cached.count() == 1
    with assert_cached():
        Shelf.cached.count()
    with override_settings(ZOOCACHE={"NAME": "of-the-override", "TTL": 10}):
        assert zoocache.name != name
        assert Shelf.cached.count() == 1
        with assert_cached():
            Shelf.cached.count()
        zoocache.advance(11)
        with pytest.raises(AssertionError, match="expired"):
            with assert_cached():
                Shelf.cached.count()
    settings.ZOOCACHE = {"ENABLED": False}
    with pytest.raises(AssertionError, match="switched off"):
        with assert_cached():
            Shelf.cached.count()

@pytest.mark.parametrize("clock", ["freezegun", "time_machine"])
def test_rows_with_times_while_the_clock_stands(clock, shelf, assert_cached, assert_invalidates):
    import datetime, freezegun, time_machine
    stop = freezegun.freeze_time if clock == "freezegun" else time_machine.travel
    with stop("2012-01-14 12:00"):
        with assert_invalidates(Shelf.cached.filter(made__year=2012)):
            late = Shelf.objects.create(name="late")
        read = lambda: list(Shelf.cached.filter(made__year=2012))
        assert read() == [late]
        with assert_cached(hits=1):
            assert read()[0].made == late.made
        late.delete()
        assert read() == []
    assert type(Shelf.cached.get().made) is type(shelf.made) is datetime.datetime

class CaseTest(TestCase):
    @classmethod
    def setUpTestData(cls):
        Shelf.objects.create(name="of the class")

    def test_1(self):
        for _ in range(2):
            assert Shelf.cached.get().name == "of the class"
        Shelf.objects.update(name="of test 1")
        assert Shelf.cached.get().name == "of test 1"

    def test_2(self):
        assert Shelf.cached.get().name == "of the class"
"""

WITH_UNITTEST = """
import unittest
from django.test import TestCase, TransactionTestCase, override_settings
from shop.models import Shelf
from zoocache import cacheable, config
from zoocache.testing import ZooCacheMixin

calls = []

@cacheable(ttl=60)
def one():
    calls.append(1)
    return 1

class Checks(ZooCacheMixin):
    def check(self):
        assert "-test-" in config.resolve().name
        shelf = Shelf.objects.create(name="first")
        with self.assertInvalidates(shelf, Shelf.cached.all()):
            shelf.delete()
        list(Shelf.cached.all()), one()
        with self.assertCached(hits=2):
            list(Shelf.cached.all()), one()
        with self.assertRaisesRegex(AssertionError, "2 queries"), self.assertCached():
            Shelf.objects.count(), list(Shelf.cached.order_by("?"))
        self.zoocache.advance(61)
        one()
        assert len(calls) == 2
        calls.clear()

class CaseTest(Checks, TestCase):
    def test_1(self):
        self.check()

    def test_2(self):
        self.check()

@override_settings(ZOOCACHE={"SIZE": "64MiB"})
class TransactionCaseTest(Checks, TransactionTestCase):
    def test_3(self):
        self.check()

class PlainTest(ZooCacheMixin, unittest.TestCase):
    def test_4(self):
        one()
        with self.assertCached():
            one()
        calls.clear()
        self.zoocache.clear()
        one()
        assert calls == [1]
        calls.clear()
"""


@pytest.fixture
def shop(project: Any) -> Any:
    (project.path / "shop").mkdir()
    (project.path / "shop" / "__init__.py").touch()
    (project.path / "shop" / "models.py").write_text(SHOP)
    (project.path / "shop_settings.py").write_text(SETTINGS)
    return project


def test_with_pytest_django(shop: Any) -> None:
    shop.makepyfile(WITH_PYTEST_DJANGO)
    shop.makeini(
        "[pytest]\nDJANGO_SETTINGS_MODULE = shop_settings\npythonpath = .\nfilterwarnings = error\n"
    )
    shop.runpytest_subprocess("-n", "2").assert_outcomes(passed=12)


def test_with_djangos_own_runner(shop: Any) -> None:
    shop.makepyfile(test_cases=WITH_UNITTEST)
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "shop_settings", "PYTHONPATH": "."}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "django", "test", "--parallel", "2"],
        cwd=shop.path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Ran 4 tests" in done.stderr
    unlink(os.environ["ZOOCACHE_NAME"])  # what ran outside of the tests has made


@pytest.fixture
def project(pytester: pytest.Pytester, short_name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A folder to run pytest in, where the segment that is configured is this test's."""
    monkeypatch.setenv("ZOOCACHE_NAME", short_name)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    yield pytester
    left = sorted(Path("/dev/shm").glob(Path(path_of(short_name)).name + "*"))
    assert left == [], "the run left segments behind"


FUNCTIONS = """
import datetime, os, subprocess, sys, time
import pytest
import zoocache as package
from zoocache import cacheable
from zoocache.testing import isolated

calls = []

@cacheable(deps=lambda n: [f"number:{n}"], ttl=60)
def double(n):
    calls.append(n)
    return 2 * n

@cacheable()
def today():
    return datetime.date.today(), datetime.datetime.now()

@pytest.mark.parametrize("n", range(8))
def test_every_test_begins_with_an_empty_cache(n):
    calls.clear()
    assert double(1) == double(1) == 2
    assert calls == [1]

def test_the_segment_is_the_workers_own_and_its_childrens(zoocache):
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    assert zoocache.name.startswith(os.environ["ZOOCACHE_NAME"])
    assert worker == "" or zoocache.name.endswith(f"-{worker}")
    double(1)
    script = "from zoocache import config, stats; print(config.resolve().name, stats()['sets'])"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout
    name, sets = told.split()
    assert name == zoocache.name and int(sets) >= 1
    assert os.stat(f"/dev/shm/zoocache-{os.geteuid()}-{name}").st_size <= 2 << 20

def test_another_name_is_isolated_too(zoocache):
    package.configure(name="another" * 9)
    try:
        assert len(zoocache.name) == 64 and zoocache.name.startswith("anotheranother")
        assert double(1) == 2
    finally:
        package.configure(name=os.environ["ZOOCACHE_NAME"])

def test_counts(zoocache):
    double(1), double(1), double(2)
    assert zoocache.stats()["sets"] == 2
    zoocache.clear()
    calls.clear()
    double(1)
    assert calls == [1]

def test_assert_cached(assert_cached):
    double(1)
    with assert_cached():
        double(1)
    with assert_cached(hits=2):
        double(1), double(1)
    with pytest.raises(AssertionError, match="2 hits and nothing .* 1 hits, missed: nothing"):
        with assert_cached(hits=2):
            double(1)
    with pytest.raises(AssertionError, match="1 hits, missed: (absent|stale)"):
        with assert_cached():
            double(1), double(2)
    with pytest.raises(AssertionError, match="0 hits, missed: nothing"):
        with assert_cached():
            pass
    package.configure(enabled=False)
    try:
        with pytest.raises(AssertionError, match="switched off"):
            with assert_cached():
                double(1)
    finally:
        package.configure(enabled=True)

def test_assert_invalidates(assert_invalidates):
    with assert_invalidates("number:1", "anything:at:all"):
        package.invalidate("number", "anything:at")
    with assert_invalidates("number:1"):
        package.clear()
    with pytest.raises(AssertionError, match="number:2: what(.|\\n)*was: number:1 .invalidate."):
        with assert_invalidates("number:1", "number:2"):
            package.invalidate("number:1")
    with pytest.raises(TypeError):
        with assert_invalidates():
            pass
    with pytest.raises(TypeError, match="not a tag"):
        with assert_invalidates(3):
            pass

def test_expiry(zoocache, assert_cached):
    double(1)
    zoocache.advance(59)
    with assert_cached():
        double(1)
    zoocache.advance(2)
    calls.clear()
    double(1)
    assert calls == [1]
    with isolated() as inner:
        inner.advance(30)
        calls.clear()
        double(1)
        assert calls == [1]

def test_a_clock_that_is_frozen(zoocache, assert_cached):
    from freezegun import freeze_time

    double(1)
    with freeze_time("2012-01-14") as frozen:
        with assert_cached():  # the time to live is the kernel's
            double(1)
        assert today() == (datetime.date(2012, 1, 14), datetime.datetime(2012, 1, 14))
        frozen.tick(61)
        with assert_cached(hits=2):
            double(1), today()
        zoocache.advance(61)
        calls.clear()
        double(1)
        assert calls == [1]
        package.invalidate("number:1")
        double(1)
        assert calls == [1, 1]
    for kept in today():
        assert type(kept).__module__ == "datetime"

def test_a_clock_that_travels(zoocache, assert_cached):
    import time_machine

    double(1)
    with time_machine.travel("2012-01-14", tick=False) as traveller:
        with assert_cached():
            double(1)
        assert today()[0] == datetime.date(2012, 1, 14)
        traveller.shift(61)
        with assert_cached(hits=2):
            double(1), today()
        zoocache.advance(61)
        calls.clear()
        double(1)
        assert calls == [1]
        package.invalidate("number:1")
        double(1)
        assert calls == [1, 1]

def test_a_process_that_dies_around_a_commit(zoocache):
    script = "import os; from zoocache import commits; "
    script += "commits.Announcement(frozenset(['number']), session='', quarantine=60).make(); "
    subprocess.run([sys.executable, "-c", script + "os._exit(9)"])
    double(1), double(1)
    assert zoocache.stats()["pending"] > 0

def test_the_test_after_it(assert_cached):
    double(1)
    with assert_cached():
        double(1)
"""


@pytest.mark.parametrize("options", [["-n", "2"], []], ids=["xdist", "alone"])
def test_functions(project: Any, options: list[str]) -> None:
    project.makepyfile(FUNCTIONS)
    project.makeini("[pytest]\nzoocache_size = 2MiB\nfilterwarnings = error\n")
    result = project.runpytest_subprocess("-p", "no:randomly", *options)
    result.assert_outcomes(passed=18)


def test_what_a_killed_run_left_is_removed_by_a_later_one(segment_name: str) -> None:
    begin = segment_name[:40]
    names = {what: f"{begin}-test-0123456{n}" for n, what in enumerate(("left", "young", "used"))}
    names["other"] = f"{begin}-test-drive"
    kept = Segment(names["used"], MIN_SIZE)
    for name in names.values():
        Segment(name, MIN_SIZE)
        if name != names["young"]:
            os.utime(path_of(name), (time.time() - 4000,) * 2)
    try:
        with isolated("1MiB"):
            there = {what for what, name in names.items() if os.path.exists(path_of(name))}
        assert there == {"young", "used", "other"}
        assert not kept.retired
    finally:
        for name in names.values():
            unlink(name)
            Path(path_of(name) + ".lock").unlink(missing_ok=True)


def test_isolation_by_the_fixture_alone(project: Any) -> None:
    project.makeini("[pytest]\nzoocache_isolate = false\n")
    project.makepyfile(
        """
        import os
        from zoocache import cacheable, config
        from zoocache.shm import unlink

        calls = []

        @cacheable()
        def one():
            calls.append(1)
            return 1

        def test_1():
            assert config.resolve().name == os.environ["ZOOCACHE_NAME"]
            one()

        def test_2(zoocache):
            assert zoocache.name != os.environ["ZOOCACHE_NAME"]
            one()
            assert calls == [1, 1]

        def test_3():
            one()
            assert calls == [1, 1]
            unlink(os.environ["ZOOCACHE_NAME"])
        """
    )
    project.runpytest_subprocess().assert_outcomes(passed=3)
