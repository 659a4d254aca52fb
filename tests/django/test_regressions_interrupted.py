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

# It may also come in a finalizer, which can only print it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Interrupt(BaseException):
    pass


def update(pk: int, name: str) -> None:
    Product.objects.filter(pk=pk).update(name=name)


def save(pk: int, name: str) -> None:
    Product(pk=pk, name=name, category_id=1).save(force_update=True)


def raw(pk: int, name: str) -> None:
    with transaction.get_connection().cursor() as cursor:
        cursor.execute("UPDATE shop_product SET name = %s WHERE id = %s", [name, pk])


def returning(pk: int, name: str) -> None:
    with transaction.get_connection().cursor() as cursor:
        cursor.execute("UPDATE shop_product SET name = %s WHERE id = %s RETURNING id", [name, pk])
        cursor.fetchall()


WRITES = [update, save, raw, returning]


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


def interrupted_at(point: int, act: Callable[..., None], *args: Any) -> Interrupt | None:
    """Runs `act`; raises in it at the point-th place where a signal is handled: as a function
    begins, and when a C function has returned. None if there are not so many."""
    left = point

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal left
        if event in ("call", "c_return") and frame.f_code.co_name != "__del__":
            left -= 1
            if left == 0:
                raise Interrupt

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        act(*args)
    except Interrupt as error:
        return error
    finally:
        sys.setprofile(before)
    return Interrupt() if left <= 0 else None


@pytest.mark.parametrize("write", [update, save, raw, returning])
def test_an_interruption_at_any_point_of_a_write(
    write: Callable[[int, str], None],
    sqlite: Any,
    product: Product,
    stored: Callable[[], str],
    evidence: Callable[..., None],
) -> None:
    point, error = 0, Interrupt()
    try:
        while error:
            point += 1
            assert read(product) == stored()
            # Kept, as in an `except` block: generators in its traceback are not closed yet.
            error = interrupted_at(point, write, product.pk, str(point))
            assert read(product) == stored(), f"after point {point}"
            assert elsewhere(lambda: read(product)) == stored(), f"elsewhere, after {point}"
            raw(product.pk, "seen")
            assert elsewhere(lambda: read(product)) == "seen", f"the next write after {point}"
    finally:
        error = None
    assert point > 50
    evidence(f"{write.__name__} interrupted", points=point)


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
                rng.choice(WRITES)(product.pk, str(rng.random()))
                signal.setitimer(signal.ITIMER_REAL, 0)
            except (Interrupt, TypeError):  # CPython makes that of it in a failing import
                interrupted += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            assert read(product) == stored(), f"seed {seed}"
            assert elsewhere(lambda: read(product)) == stored(), f"elsewhere, seed {seed}"
    finally:
        signal.signal(signal.SIGALRM, before)
    assert interrupted
    evidence("writes interrupted by a signal", exceptions=interrupted)
