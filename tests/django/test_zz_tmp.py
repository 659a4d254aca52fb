"""An exception from outside, a signal's or a timeout's, in the middle of a write leaves nothing
stale: what was written is published by the next statement at the latest."""

from __future__ import annotations

import random
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
from django.db import transaction
from shop.models import Category, Product
from shop.workers import elsewhere

from zoocache.contrib.django import connection, cursors, hooks

# It may also come in a finalizer, which can only print it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Interrupt(BaseException):
    pass


def update(pk: int, name: str) -> None:
    Product.objects.filter(pk=pk).update(name=name)


def save(pk: int, name: str) -> None:
    Product(pk=pk, name=name, category_id=1).save(force_update=True)


def update_in_a_transaction(pk: int, name: str) -> None:
    with transaction.atomic():
        Product.objects.filter(pk=pk).update(name=name)


def raw(pk: int, name: str) -> None:
    with transaction.get_connection().cursor() as cursor:
        cursor.execute("UPDATE shop_product SET name = %s WHERE id = %s", [name, pk])


def returning(pk: int, name: str) -> None:
    with transaction.get_connection().cursor() as cursor:
        cursor.execute("UPDATE shop_product SET name = %s WHERE id = %s RETURNING id", [name, pk])
        cursor.fetchall()


def upsert(pk: int, name: str) -> None:
    Product.objects.bulk_create(
        [Product(pk=pk, name=name)],
        update_conflicts=True,
        update_fields=["name"],
        unique_fields=["id"],
    )


AUTOCOMMITTED = [update, save, raw, returning]


@pytest.fixture
def product(sqlite: Any) -> Product:
    Category.objects.create(pk=1)
    return Product.objects.create(name="", category_id=1)


@pytest.fixture
def stored(sqlite: Any, product: Product) -> Iterator[Callable[[], str]]:
    """The product's name as the database has it, read past Django."""
    with sqlite3.connect(sqlite.settings_dict["NAME"], isolation_level=None) as other:
        select = "SELECT name FROM shop_product WHERE id = ?"
        yield lambda: other.execute(select, [product.pk]).fetchone()[0]
    other.close()


def read(product: Product) -> str:
    return str(Product.cached.get(pk=product.pk).name)


OURS = frozenset(module.__file__ for module in (connection, cursors, hooks))


def interrupted_at(line: int, act: Callable[[], None]) -> bool:
    """Runs `act`; raises in it when it comes to the line-th line of ours. Did it come there?"""
    left = line

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in OURS or frame.f_code.co_name == "__del__":
            return None
        if event == "line":
            left -= 1
            if left == 0:
                raise Interrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    except Interrupt:
        return True
    finally:
        sys.settrace(before)
    return left <= 0


@pytest.mark.parametrize("write", [*AUTOCOMMITTED, update_in_a_transaction, upsert])
def test_an_interruption_at_any_line_of_a_write(
    write: Callable[[int, str], None],
    sqlite: Any,
    product: Product,
    stored: Callable[[], str],
    evidence: Callable[..., None],
) -> None:
    line, more = 0, True
    while more:
        line += 1
        assert read(product) == stored()
        more = interrupted_at(line, lambda: write(product.pk, str(line)))
        if sqlite.connection.in_transaction:
            sqlite.close()  # after an exception in `atomic` itself Django could not go on, either
        assert read(product) == stored(), f"after line {line}"
        assert elsewhere(lambda: read(product)) == stored(), f"after line {line}, in another worker"
    assert stored() == str(line)
    assert line > 30
    evidence(f"{write.__name__} interrupted", lines=line)


def test_a_signal_handler_that_raises_during_writes(
    product: Product, stored: Callable[[], str], evidence: Callable[..., None]
) -> None:
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)

    def handler(number: int, frame: FrameType | None) -> None:
        raise Interrupt

    def timed() -> float:
        start = time.perf_counter()
        update(product.pk, "warm")
        return time.perf_counter() - start

    usual = min(timed() for _ in range(5))
    interrupted, end, before = 0, time.monotonic() + 2, signal.signal(signal.SIGALRM, handler)
    try:
        while time.monotonic() < end:
            read(product)
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.3, 1.6) * usual)
                rng.choice(AUTOCOMMITTED)(product.pk, str(rng.random()))
                signal.setitimer(signal.ITIMER_REAL, 0)
            except (Interrupt, TypeError):  # CPython makes that of it in a failing import
                interrupted += 1; tb=sys.exc_info()[2]; import traceback; print([(f.name,f.lineno) for f in traceback.extract_tb(tb)][-4:])
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            assert read(product) == stored(), f"seed {seed}"
            st=connection.state_of(transaction.get_connection()); e=elsewhere(lambda: read(product)); print(n0:=interrupted, st.dirty, st._writing, st._held, st._depth); assert e==stored()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert interrupted
    evidence("writes interrupted by a signal", exceptions=interrupted)
