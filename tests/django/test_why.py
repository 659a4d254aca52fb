"""Why a query was a hit or a miss, and the management command that tells."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import transaction
from django.db.models.functions import Now
from shop import routing
from shop.models import Category, Product

from zoocache import clear, invalidate
from zoocache.contrib.django.why import watching, why, why_tag
from zoocache.shm.explain import State

pytestmark = pytest.mark.usefixtures("shop")


def get() -> Product:
    return Product.cached.get(pk=1)


def just_now(told: str) -> str:
    """The same without the seconds that have gone by, of which a busy machine makes a few."""
    return re.sub(r"\b\d\.\d s ago", "just now", told)


def command(*args: str) -> str:
    out = StringIO()
    call_command("zoocache", *args, stdout=out)
    return out.getvalue()


class TestWhy:
    def test_a_miss_and_a_hit(self) -> None:
        assert "a miss: never stored" in why(get)
        told = why(get)
        assert told.startswith("shop.Product: a hit of ")
        assert "row 1 of shop_product" in told
        assert "SELECT" in told

    def test_a_row_that_was_written(self) -> None:
        get()
        Product.objects.filter(pk=1).update(name="new")
        told = just_now(why(get))
        assert "a miss: it was invalidated" in told
        assert f"row 1 of shop_product: just now by process {os.getpid()} (commit)" in told

    def test_another_process_wrote(self) -> None:
        get()
        pid = os.fork()
        if pid == 0:
            try:
                invalidate("Product:1")
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        assert f"by process {pid} (invalidate)" in why(get)

    def test_everything_was_cleared(self) -> None:
        get()
        clear()
        assert "everything: just now" in just_now(why(get))

    def test_its_time_is_over(self) -> None:
        from zoocache import store

        list(Product.cached.zoocache(ttl=5))
        target = store.cache()
        assert target is not None
        target.segment.shift_time(6)
        try:
            assert "its time to live is over" in why(Product.cached.zoocache(ttl=5))
        finally:
            target.segment.shift_time(0)

    @pytest.mark.parametrize(
        ("query", "reason"),
        [
            (lambda: Product.cached.filter(made__lt=Now()), "Now is not known to be deterministic"),
            (lambda: Product.cached.order_by("?"), "Random is not known"),
            (lambda: Product.cached.extra(where=["1 = 1"]), "ExtraWhere is not known"),
        ],
    )
    def test_what_cannot_be_cached(self, query: Callable[[], Any], reason: str) -> None:
        try:
            told = why(query())
        except Exception:
            pytest.skip("the model has no such field")
        assert "not cached, because" in told
        assert reason in told

    def test_inside_a_transaction_that_wrote(self) -> None:
        with transaction.atomic(using=routing.active):
            Product.objects.filter(pk=1).update(name="new")
            assert "the transaction has written to a table of it" in why(get)

    def test_several_reads(self) -> None:
        def work() -> None:
            get()
            Category.cached.count()

        assert why(work).count("a miss") == 2
        assert why(work).count("a hit") == 2

    def test_nothing_cached(self) -> None:
        assert why(Product.objects.all()).startswith("No cached query ran")

    def test_watching_is_over_with_its_block(self) -> None:
        with watching() as reads:
            get()
        get()
        (read,) = reads
        assert read.entry is not None
        assert read.entry.state is State.ABSENT

    def test_being_asked_counts_as_nothing(self) -> None:
        from zoocache import stats

        get()
        before = stats()
        why(lambda: None)
        assert stats() == before


class TestTags:
    def test_when_it_was_invalidated(self) -> None:
        assert why_tag("Product:1").startswith("Product:1: ")
        before = len(why_tag("Product:1").splitlines())
        invalidate("Product:1")
        Product.objects.filter(pk=1).update(name="new")
        Product.objects.filter(pk=2).update(name="new")
        told = why_tag("Product:1").splitlines()[before:]
        assert any("(invalidate)" in line for line in told)
        assert any("row 1 of shop_product: " in line and "(commit)" in line for line in told)
        assert not any("row 2" in line for line in told)

    @pytest.mark.parametrize(
        ("tag", "write", "named"),
        [
            ("Product:1", lambda: Product.objects.update(stock=5), "writes to unknown rows"),
            ("Product:1", lambda: invalidate("Product"), "all of shop_product"),
            ("Product", lambda: Product.objects.get(pk=1).save(), "any write to shop_product"),
            ("Product:category:1", lambda: Product.objects.get(pk=1).save(), "any write to"),
            ("Product:1", clear, "everything"),
        ],
    )
    def test_what_is_above_it_counts(
        self, tag: str, write: Callable[[], object], named: str
    ) -> None:
        """What depends on a row falls with a write that names no rows."""
        before = Counter(why_tag(tag).splitlines())
        write()
        new = Counter(why_tag(tag).splitlines()) - before
        assert any(line.startswith(f"  {named}") for line in new), new

    def test_what_happened_often_is_one_line(self) -> None:
        """Migrations and fixtures may drop everything a hundred times."""
        for _ in range(5):
            clear()
        *_, line = just_now(why_tag("Product:1")).splitlines()
        pid = os.getpid()
        assert line == f"  everything: 5 times, the last just now by process {pid} (clear)"


class TestCommand:
    def test_why_a_query(self) -> None:
        assert "shop.Product: a miss" in command("why", "Product.cached.filter(pk=1)")
        assert "shop.Product: a hit" in command("why", "Product.cached.filter(pk=1)")
        assert "shop.Product: a miss" in command("why", "Product.cached.get(pk=1).name")

    def test_why_a_tag(self) -> None:
        assert "on this host" in command("why", "Product:1")

    @pytest.mark.parametrize("what", ["Product.cached.filter(", "Product.cached.get(pk=-1)"])
    def test_why_of_nonsense(self, what: str) -> None:
        with pytest.raises(CommandError, match=r"Product\.cached"):
            command("why", what)

    def test_invalidate(self, queries: Callable[..., Any]) -> None:
        get()
        command("invalidate", "Product:1")
        with queries(1):
            get()

    def test_invalidate_of_no_tag(self) -> None:
        with pytest.raises(CommandError, match="is not a tag"):
            command("invalidate", "a::b")

    def test_clear(self, queries: Callable[..., Any]) -> None:
        get()
        command("clear")
        with queries(1):
            get()
