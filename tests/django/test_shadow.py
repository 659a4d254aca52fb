"""Shadow mode: hits are compared with the database."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from django.core import checks
from django.test import override_settings
from shop import stock
from shop.models import Product

import zoocache
from zoocache import config, points


@pytest.fixture
def shadow(db: Any, settings_of: Callable[..., None]) -> Any:
    stock.fill()
    settings_of(SHADOW=1)
    return db


@pytest.fixture
def settings_of() -> Any:
    changed: list[override_settings] = []

    def change(**values: object) -> None:
        from django.conf import settings

        given = {**getattr(settings, "ZOOCACHE", {}), **values}
        override = override_settings(ZOOCACHE=given)
        override.enable()
        changed.append(override)
        config.changed()

    yield change
    for override in reversed(changed):
        override.disable()
    config.changed()


def names() -> list[str]:
    return [product.name for product in Product.cached.order_by("pk")]


def compared() -> tuple[int, int]:
    """Hits that were compared, and those that differed."""
    counters = zoocache.stats()
    return counters["compared"], counters["differed"]


def change_unseen(db: Any, name: str) -> None:
    """Writes past Django, as another application does."""
    with closing(db.connection.cursor()) as cursor:
        cursor.execute(f"UPDATE shop_product SET name = '{name}' WHERE id = 1")


def test_equal_hits_are_not_reported(
    shadow: Any, queries: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    names()
    with queries(1):
        names()
    assert not caplog.records
    assert compared() == (1, 0)


def test_a_stale_hit_is_reported_and_the_database_believed(
    shadow: Any, caplog: pytest.LogCaptureFixture
) -> None:
    names()
    change_unseen(shadow, "unseen")
    assert "unseen" in names()
    assert compared() == (1, 1)
    (record,) = [r for r in caplog.records if r.name == "zoocache.shadow"]
    assert record.levelno == logging.ERROR
    assert "shop.Product" in record.getMessage()
    assert "'unseen'" in record.getMessage()


def test_a_write_in_between_is_no_mismatch(
    shadow: Any, elsewhere: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    names()

    def write(name: str) -> None:
        if name == "shadow:found":
            points.install(None)
            elsewhere(lambda: Product.objects.filter(pk=1).update(name="between"))

    points.install(write)
    try:
        assert "between" in names()
    finally:
        points.install(None)
    assert not [r for r in caplog.records if r.name == "zoocache.shadow"]


def test_a_share_of_the_hits(
    shadow: Any,
    settings_of: Callable[..., None],
    queries: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings_of(SHADOW=0.25)
    names()
    dice = iter([0.24, 0.25, 0.9])
    monkeypatch.setattr("zoocache.contrib.django.reading.random", lambda: next(dice))
    for expected in (1, 0, 0):
        with queries(expected):
            names()


@pytest.mark.parametrize("share", [-1, 1.5, "1", True, None])
def test_a_share_that_is_none_is_refused(
    share: object, sqlite: Any, settings_of: Callable[..., None]
) -> None:
    settings_of(SHADOW=share)
    assert any("SHADOW" in e.msg for e in checks.run_checks() if e.id == "zoocache.E001")
