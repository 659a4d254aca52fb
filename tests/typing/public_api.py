"""Must type-check under mypy --strict: what users write, with the types that they get."""

from __future__ import annotations

import unittest
from datetime import date

from typing_extensions import assert_type

import zoocache
from zoocache.shm import Cache, Outcome, Segment
from zoocache.testing import (
    Isolated,
    ZooCacheMixin,
    assert_cached,
    assert_invalidates,
    isolated,
)


@zoocache.cacheable(ttl=60, deps=lambda user: [f"user:{user}"])
def profile(user: int, *, full: bool = False) -> dict[str, date]:
    zoocache.add_deps(["themes"])
    return {}


@zoocache.cacheable(key="news:{page}")
async def news(page: int = 1) -> list[str]:
    return []


async def reads() -> None:
    assert_type(profile(42, full=True), dict[str, date])
    assert_type(await news(2), list[str])
    assert_type(zoocache.stats(), dict[str, int])
    profile("42")  # type: ignore[arg-type]


def writes() -> None:
    zoocache.configure(name="shop", size="64MiB", ttl=None, enabled=True)
    zoocache.configure(size=1 << 20, group="shop")
    zoocache.invalidate("Product:42", "Product:category:5")
    zoocache.clear()


def core() -> None:
    cache = Cache(Segment("shop", 1 << 20))
    assert_type(cache.get(b"key"), bytes | None)
    assert_type(cache.set("key", b"value", ttl=1.5, tags=["a:b"]), Outcome)
    assert_type(cache.fill("key", b"value", cache.stamp()), Outcome)
    assert_type(cache.delete("key"), bool)


def tests(zoocache_fixture: Isolated) -> None:
    with assert_cached(hits=1), assert_invalidates("Product:42", object()):
        zoocache_fixture.advance(60)
    with isolated("4MiB") as own:
        assert_type(own.stats(), dict[str, int])
    with zoocache_fixture.assert_cached():
        pass


class Case(ZooCacheMixin, unittest.TestCase):
    def test(self) -> None:
        with self.assertCached(hits=1), self.assertInvalidates("Product:42"):
            assert_type(self.zoocache, Isolated)
