"""What a model's class says: keys of Meta, tags and a hook (promises 7, 8, 13, 26)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import migrations, models, transaction
from django.db.migrations.state import ModelState
from django.test.utils import isolate_apps
from shop import routing
from shop.models import Crate, Shelf

import zoocache
from zoocache.contrib.django import ZooCacheManager, meta, writing

Queries = Callable[..., Any]
IsCached = Callable[[Callable[[], Any]], bool]


@pytest.fixture
def shelf(db: Any) -> Iterator[Any]:
    Crate.saved.clear()
    yield Shelf.objects.create(name="top")
    Crate.broken = False
    meta.has_signals.cache_clear()


def test_7_a_manager_in_meta(shelf: Any, is_cached: IsCached) -> None:
    assert is_cached(lambda: Shelf.cached.get(name="top"))
    assert not is_cached(lambda: Shelf.objects.get(name="top"))
    assert Shelf._default_manager is Shelf.objects
    assert type(Shelf._default_manager) is ZooCacheManager
    assert Shelf.cached.ttl == 300
    Shelf.objects.update(name="new")
    assert list(Shelf.cached.values_list("name", flat=True)) == ["new"]


def test_7_migrations_do_not_know_of_it(db: Any, capsys: pytest.CaptureFixture[str]) -> None:
    state = ModelState.from_model(Shelf)
    assert not {"objects", "zoo_cache_signals"} & state.options.keys()
    assert state.managers == []
    written = migrations.CreateModel(state.name, [], state.options).deconstruct()
    assert "objects" not in str(written)
    call_command("makemigrations", "shop", "--dry-run", "--verbosity", "3")
    text = capsys.readouterr().out
    assert "ZooCacheManager" not in text
    assert "zoo_cache_signals" not in text


@isolate_apps("shop")
def test_7_8_inheritance() -> None:
    class Base(models.Model):
        class Meta:
            abstract = True
            objects = ZooCacheManager()
            zoo_cache_signals = False
            app_label = "shop"

    class Child(Base):
        pass

    class Own(Base):
        class Meta:
            zoo_cache_signals = True
            app_label = "shop"

    class Inherits(Base):
        class Meta(Base.Meta):
            ordering = ("pk",)

    class Proxy(Child):
        class Meta:
            proxy = True
            app_label = "shop"

    class Table(Child):
        class Meta:
            app_label = "shop"

    for model in (Child, Own, Inherits, Proxy, Table):
        assert isinstance(model.objects, ZooCacheManager), model
        assert model._default_manager is model.objects
        assert model.cached.model is model
        assert model.objects.model is model
    signals = {model.__name__ for model in (Child, Own, Inherits, Proxy, Table)
               if meta.has_signals(model)}  # fmt: skip
    assert signals == {"Own"}


@isolate_apps("shop")
def test_7_the_body_counts_more_than_meta() -> None:
    class Both(models.Model):
        objects = models.Manager()

        class Meta:
            objects = ZooCacheManager(ttl=5)
            app_label = "shop"

    assert type(Both.objects) is models.Manager
    assert Both._default_manager is Both.objects
    assert Both.cached.ttl == 5


@isolate_apps("shop")
@pytest.mark.parametrize(
    ("key", "value"), [("objects", "all"), ("zoo_cache_signals", "yes"), ("zoo_cache_signal", True)]
)
def test_7_8_wrong_keys_are_refused(key: str, value: object) -> None:
    with pytest.raises(TypeError, match=key):
        type("Wrong", (models.Model,), {
            "__module__": __name__, "Meta": type("Meta", (), {key: value, "app_label": "shop"}),
        })  # fmt: skip


def test_8_without_signals_writes_still_invalidate(
    shelf: Any, is_cached: IsCached, queries: Queries, monkeypatch: pytest.MonkeyPatch
) -> None:
    crate = Crate.objects.create(label="a", shelf=shelf)
    other = Crate.objects.create(label="b", shelf=shelf)
    monkeypatch.setattr(Crate._meta, "zoo_cache_signals", False)
    meta.has_signals.cache_clear()
    Crate.saved.clear()
    assert is_cached(lambda: Crate.cached.get(pk=other.pk))
    crate.label = "c"
    crate.save()
    assert Crate.cached.get(pk=crate.pk).label == "c"
    with queries(1):  # the row was not named
        Crate.cached.get(pk=other.pk)
    assert Crate.saved == []
    found = [message for message in run_checks() if message.id == "zoocache.W002"]
    assert [message.obj for message in found] == [Crate]


def test_8_without_signals_a_delete_drops_what_the_database_cascades_to(
    shelf: Any, is_cached: IsCached, queries: Queries, monkeypatch: pytest.MonkeyPatch
) -> None:
    crate = Crate.objects.create(label="a", shelf=shelf)
    monkeypatch.setattr(Crate._meta, "zoo_cache_signals", False)
    meta.has_signals.cache_clear()
    # As if there were a relation that leaves it to the database, from Django 6.1 on.
    monkeypatch.setattr(writing, "cascaded", lambda model, seen: {Shelf._meta.db_table})
    assert is_cached(lambda: Shelf.cached.get(pk=shelf.pk))
    Crate.objects.filter(pk=crate.pk).delete()
    with queries(1):
        Shelf.cached.get(pk=shelf.pk)


def test_13_tags_of_an_instance(shelf: Any, is_cached: IsCached, queries: Queries) -> None:
    for label in ("a", "b"):
        Crate.objects.create(label=label, shelf=shelf)
    reads = {
        "get": lambda: Crate.cached.get(label="a"),
        "list": lambda: list(Crate.cached.all()),
        "related": lambda: list(Crate.cached.select_related("shelf")),
        "only": lambda: list(Crate.cached.only("label")),
    }
    for name, read in reads.items():
        if name == "only":
            read()  # reads the deferred field on its way
        assert is_cached(read), name
        zoocache.invalidate("box:b")
        assert is_cached(read) == is_cached(read)
        with queries(0):
            read()
        zoocache.invalidate("box:a")
        with queries() as captured:
            read()
        assert len(captured) > 0, name
    assert is_cached(lambda: Crate.cached.filter(label="a").count())
    zoocache.invalidate("box:a")
    with queries(0):  # which holds no instance
        Crate.cached.filter(label="a").count()


def test_13_a_model_tag_of_an_instance_means_its_row(shelf: Any, queries: Queries) -> None:
    Crate.objects.create(label="a", shelf=shelf)
    Crate.cached.get(label="a")
    Shelf.objects.filter(pk=shelf.pk).update(name="new")
    with queries(1):
        Crate.cached.get(label="a")


def test_13_one_that_raises(
    shelf: Any, is_cached: IsCached, caplog: pytest.LogCaptureFixture
) -> None:
    Crate.objects.create(label="a", shelf=shelf)
    Crate.broken = True
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            assert not is_cached(lambda: Crate.cached.get(label="a").label == "a")
    assert ["zoocache_deps" in record.message for record in caplog.records] == [True]


def test_26_the_hook_runs_after_commit(shelf: Any) -> None:
    crate = Crate.objects.create(label="a", shelf=shelf)
    using = routing.active
    assert Crate.saved == [(crate.pk, True, using)]
    with transaction.atomic(using=using):
        crate.save()
        assert len(Crate.saved) == 1
    assert Crate.saved[1:] == [(crate.pk, False, using)]
    with suppress(LookupError), transaction.atomic(using=using):
        crate.save()
        raise LookupError
    assert len(Crate.saved) == 2


def test_26_it_adds_to_the_defaults(
    shelf: Any, queries: Queries, caplog: pytest.LogCaptureFixture
) -> None:
    calls = []

    @zoocache.cacheable(deps=["Crate:list"])
    def function() -> int:
        calls.append(1)
        return len(calls)

    crate = Crate.objects.create(label="a", shelf=shelf)
    assert function() == function() == 1
    assert Crate.cached.get(pk=crate.pk).label == "a"
    crate.label = "raise"
    with caplog.at_level(logging.ERROR):
        crate.save()  # the row is saved, whatever the hook does
    assert "zoocache_invalidate_on_save raised" in caplog.text
    assert Crate.cached.get(pk=crate.pk).label == "raise"
    assert function() == 2
