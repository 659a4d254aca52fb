"""What a hit and a save() take, counted in calls of Python functions: on a hit, these are its time.

Who goes past a fast path makes more of them, and the names tell which.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import override_settings
from shop.models import Category

import zoocache

OURS = str(Path(zoocache.__file__).parent)


def calls(run: Callable[[], Any]) -> list[str]:
    """The functions of zoocache that were called, in their order."""
    seen: list[str] = []

    def note(frame: Any, event: str, arg: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(OURS):
            seen.append(frame.f_code.co_name)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(before)
    return seen


@pytest.fixture(autouse=True)
def rows(sqlite: Any) -> Iterator[None]:
    Category.objects.create(pk=1, name="a")
    for number in range(2, 5):
        Category.objects.create(pk=number, name="b", parent_id=1)
    with override_settings(DATABASE_ROUTERS=[]):  # which are asked each time
        yield


LIST = ["__iter__", "__len__"]
HITS: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "get": (lambda: Category.cached.get(pk=1), ["method", "get"]),
    "filter": (lambda: list(Category.cached.filter(parent=1)), ["method", *LIST]),
    "filters": (
        lambda: list(Category.cached.filter(parent=1).exclude(name="x")),
        ["method", "recorded", *LIST],
    ),
    "count": (
        lambda: Category.cached.filter(parent=1).count(),
        ["method", "count", "_answer", "_number"],
    ),
    "exists": (
        lambda: Category.cached.filter(name="a").exists(),
        ["method", "exists", "_answer", "_is_any"],
    ),
}


@pytest.mark.parametrize("name", HITS)
def test_a_hit_calls_no_more_than_it_must(name: str) -> None:
    read, wanted = HITS[name]
    for _ in range(4):
        read()
    assert calls(read) == wanted


def test_what_a_save_adds() -> None:
    category = Category.objects.get(pk=2)
    for _ in range(3):
        category.save()
    seen = calls(category.save)
    assert len(seen) <= 29, seen
    assert "pins_of" not in seen  # its tags were found by the shortest way
    assert "effect_of" not in seen  # and nobody looked at its SQL


def test_a_hit_without_a_connection() -> None:
    """As at the beginning of a request, with the CONN_MAX_AGE that Django has."""
    read = HITS["get"][0]
    for _ in range(4):
        read()
    connection.close()
    read()
    assert connection.connection is None
    assert calls(read) == ["method", "get", "digest", "_is_another"]
