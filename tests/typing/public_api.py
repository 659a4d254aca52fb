"""Must type-check under mypy --strict: what users write, with the types that they get."""

from __future__ import annotations

from datetime import date

from typing_extensions import assert_type

import zoocache
from zoocache.shm import Cache, Outcome, Segment


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
    zoocache.configure(size=1 << 20)
    zoocache.invalidate("Product:42", "Product:category:5")
    zoocache.clear()


def core() -> None:
    cache = Cache(Segment("shop", 1 << 20))
    assert_type(cache.get(b"key"), bytes | None)
    assert_type(cache.set("key", b"value", ttl=1.5, tags=["a:b"]), Outcome)
    assert_type(cache.fill("key", b"value", cache.stamp()), Outcome)
    assert_type(cache.delete("key"), bool)
