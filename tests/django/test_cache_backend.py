"""`ZooCache` as Django's cache: values, timeouts, namespaces, and what goes wrong."""

from __future__ import annotations

import asyncio
import datetime
import logging
import multiprocessing
import os
import pickle
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import CacheKeyWarning, caches
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.template import Context, Engine
from django.test import Client, override_settings
from django.urls import path
from django.views.decorators.cache import cache_page

import zoocache
from zoocache import store
from zoocache.contrib.django.cache import ZooCache
from zoocache.exceptions import UnstorableError
from zoocache.shm import Cache, Segment, path_of, resize, unlink

BACKEND = "zoocache.contrib.django.cache.ZooCache"
fork = multiprocessing.get_context("fork")


def make(location: str = "", **params: Any) -> ZooCache:
    return ZooCache(location, params)


@pytest.fixture
def cache() -> ZooCache:
    return make()


@pytest.fixture
def named(short_name: str) -> str:
    """A name for a segment of a cache's own."""
    return f"{short_name}-own"


@pytest.fixture(autouse=True)
def _clean() -> None:
    store._logged.clear()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.WARNING, logger="zoocache")
    return lambda: [record.getMessage() for record in caplog.records]


def in_processes(n: int, work: Callable[[], Any]) -> list[Any]:
    """What `work` returns in each of n forked processes, which begin together."""
    together, results = fork.Barrier(n), fork.SimpleQueue()

    def run() -> None:
        together.wait(30)
        results.put(work())

    processes = [fork.Process(target=run) for _ in range(n)]
    for process in processes:
        process.start()
    answers = [results.get() for _ in processes]
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    return answers


class Compressed:
    """A serializer of the user's own: a class, given by its dotted path."""

    def dumps(self, value: Any) -> bytes:
        return zlib.compress(pickle.dumps(value))

    def loads(self, data: bytes) -> Any:
        return pickle.loads(zlib.decompress(data))


class Point:
    def __init__(self, x: int) -> None:
        self.x = x


VALUES = [
    None, True, False, 0, -1, 2**63 - 1, -(2**63), 2**63, 10**5000, 1.5, "", "12", b"12", b"", "ä",
    [1, (2, {3})], {"a": datetime.date(2026, 1, 2)}, "\udc80", b"\x80\x05", b"-1",
]  # fmt: skip


@pytest.mark.parametrize("serializer", ["pickle", "zoocache", pickle, f"{__name__}.Compressed"])
def test_values_come_back_with_their_type(serializer: Any) -> None:
    cache = make(OPTIONS={"SERIALIZER": serializer})
    for value in VALUES:
        cache.set("k", value)
        found = cache.get("k", "missing")
        assert found == value
        assert type(found) is type(value)
    assert cache.set_many(dict(enumerate(map(str, VALUES[:8])))) == []
    assert cache.get_many([*range(9), "no"]) == dict(enumerate(map(str, VALUES[:8])))


def test_serializers_do_not_read_one_anothers_values(logged: Callable[[], list[str]]) -> None:
    pickled, plain = make(), make(OPTIONS={"SERIALIZER": "zoocache"})
    other = make(OPTIONS={"SERIALIZER": pickle})
    for writer in (pickled, plain, other):
        for reader in {pickled, plain, other} - {writer}:
            writer.set("k", "text")
            assert reader.get("k", "missing") == "missing"
            writer.set("n", 5)
            assert reader.get("n") == 5  # a number is nobody's
    with pytest.raises(UnstorableError):
        plain.set("k", Point(1))
    assert 1 <= len(logged()) <= 3


def test_timeouts(cache: ZooCache) -> None:
    cache.set("for-ever", 1, None)
    cache.set("huge", 1, 10**12)
    cache.set("short", 1, 0.05)
    for nothing in (0, -1, -0.5):
        cache.set("k", 1)
        cache.set("k", 2, nothing)
        assert cache.get("k") is None
        assert cache.add("k", 3, nothing) is True
        assert not cache.has_key("k")
        cache.set("k", 1)
        assert cache.add("k", 3, nothing) is False
        assert cache.touch("k", nothing) is True
        assert not cache.has_key("k")
        assert cache.touch("k", nothing) is False
        cache.set("a", 1)
        assert cache.set_many({"a": 2, "b": 2}, nothing) == []
        assert cache.get_many(["a", "b"]) == {}
    time.sleep(0.1)
    assert cache.get_many(["for-ever", "huge", "short"]) == {"for-ever": 1, "huge": 1}
    assert cache.delete("short") is False  # expired: nothing to delete
    assert make(TIMEOUT=None).default_timeout is None


def test_incr_is_exact_and_keeps_the_timeout(cache: ZooCache) -> None:
    cache.set("n", 2**63 - 2, 0.2)
    assert [cache.incr("n"), cache.incr("n"), cache.incr("n", -2)] == [
        2**63 - 1,
        2**63,
        2**63 - 2,
    ]
    assert cache.decr("n", 2**64) == 2**63 - 2 - 2**64
    assert cache.incr("n", 0.5) == float(2**63 - 2 - 2**64) + 0.5
    time.sleep(0.25)
    with pytest.raises(ValueError, match="not found"):
        cache.incr("n")
    cache.set("f", 1.5)
    assert cache.incr("f") == 2.5
    cache.set("b", True)
    assert cache.incr("b") == 2
    cache.set("s", "12")
    with pytest.raises(TypeError):
        cache.incr("s")
    assert cache.get("s") == "12"


def test_add_is_a_lock() -> None:
    cache = make()
    cache.get("opened-before-the-fork")
    for round_ in range(20):
        won = in_processes(8, lambda key=f"lock-{round_}": cache.add(key, os.getpid()))
        assert won.count(True) == 1
        assert cache.delete(f"lock-{round_}")


def test_incr_loses_nothing(evidence: Callable[..., None]) -> None:
    cache = make()
    cache.set_many({"small": 0, "big": 2**70})

    def work() -> None:
        for _ in range(5000):
            cache.incr("small")
        for _ in range(500):
            cache.incr("big")

    in_processes(4, work)
    assert cache.get("small") == 20000
    assert cache.get("big") == 2**70 + 2000
    evidence("incr of the cache backend", processes=4, increments=22000)


def test_one_of_many_deletes_wins(cache: ZooCache) -> None:
    for _ in range(20):
        cache.set("k", 1)
        assert in_processes(4, lambda: cache.delete("k")).count(True) == 1


def test_get_or_set_races(cache: ZooCache) -> None:
    values = in_processes(4, lambda: cache.get_or_set("k", os.getpid))
    assert len(set(values)) == 1
    assert cache.get_or_set("none", None) is None
    assert cache.get("none", "default") is None


UNPORTABLE = pytest.mark.filterwarnings("ignore::django.core.cache.CacheKeyWarning")


def test_keys_that_memcached_refuses_get_a_warning(cache: ZooCache) -> None:
    with pytest.warns(CacheKeyWarning, match="characters"):
        cache.set("with space", 1)
    with pytest.warns(CacheKeyWarning, match="longer than 250"):
        assert cache.get("a" * 300) is None


@UNPORTABLE
def test_keys_of_any_length_and_characters(cache: ZooCache) -> None:
    odd = ["ключ", "a b", "a" * 5000, "a" * 4999 + "b", "\udc80", "x:y*z=%", "清" * 190, ""]
    assert cache.set_many({key: i for i, key in enumerate(odd)}) == []
    assert cache.get_many(odd) == {key: i for i, key in enumerate(odd)}
    for i, key in enumerate(odd):
        assert cache.incr(key) == i + 1
        assert cache.touch(key)
        assert cache.delete(key)
    assert cache.get_many(odd) == {}


def test_versions(cache: ZooCache) -> None:
    cache.set("k", "one")
    cache.set("k", "two", version=2)
    assert (cache.get("k"), cache.get("k", version=2)) == ("one", "two")
    assert cache.incr_version("k", 4) == 5
    assert cache.get("k") is None
    assert make(VERSION=5).get("k") == "one"
    assert cache.decr_version("k", version=5) == 4
    cache.clear()
    assert cache.get_many(["k"], version=4) == {}


def reversed_key(key: Any, prefix: str, version: Any) -> str:
    return f"{version}/{key}"[::-1]


def test_key_function() -> None:
    plain, custom = make(), make(KEY_FUNCTION=reversed_key)
    custom.set("k", 1)
    assert plain.get("k") is None
    assert make(KEY_FUNCTION=reversed_key).get("k") == 1
    # It leaves the prefix out, and another prefix is another namespace all the same.
    assert make(KEY_FUNCTION=reversed_key, KEY_PREFIX="b").get("k") is None


@UNPORTABLE
def test_clear_drops_its_own_namespace_only(named: str) -> None:
    computed = []

    @zoocache.cacheable(deps=["x"])
    def function() -> str:
        computed.append(1)
        return "value"

    names = ["", "a", "a:b", "a:", "*", "ä", "p" * 500, "p" * 501]
    prefixed = [make(KEY_PREFIX=name) for name in names]
    elsewhere = make(named)
    for each in [*prefixed, elsewhere]:
        assert each.add("k", each.key_prefix)
    function()
    for i, each in enumerate(prefixed):
        each.clear()
        assert each.get("k") is None
        assert each.delete("k") is False
        assert [other.get("k") for other in prefixed[i + 1 :]] == names[i + 1 :]
        assert each.add("k", "new")
        each.clear()
    assert elsewhere.get("k") == ""
    function()
    assert computed == [1]


def test_aliases_of_one_namespace_share_it(named: str) -> None:
    params = {"BACKEND": BACKEND, "LOCATION": named, "OPTIONS": {"size": "2MiB", "MAX_ENTRIES": 3}}
    with override_settings(
        CACHES={"default": params, "same": params, "other": {"BACKEND": BACKEND}}
    ):
        caches["default"].set("k", 1)
        assert (caches["same"].get("k"), caches["other"].get("k")) == (1, None)
        assert abs(Segment(named).size - 2 * 2**20) < 65536
        caches["same"].clear()
        assert caches["default"].get("k") is None


def test_a_named_segment_is_the_groups_too(named: str) -> None:
    shared = f"{os.getegid()}/{named}"
    try:
        with override_settings(ZOOCACHE={"GROUP": os.getegid()}):
            make(named).set("k", 1)
            assert Path(path_of(shared)).stat().st_mode & 0o7777 == 0o660
        with override_settings(ZOOCACHE={"GROUP": os.getegid(), "ENABLED": False}):
            make(named).delete("k")  # others may read it
        with override_settings(ZOOCACHE={"GROUP": os.getegid()}):
            assert make(named).get("k") is None
            make(named).set("k", 2)
        assert make(named).get("k") is None  # the user's own
    finally:
        unlink(shared)


@pytest.mark.parametrize(
    ("location", "params", "message"),
    [
        ("unix:/tmp/x", {}, "LOCATION"),
        ("", {"OPTIONS": {"SIZE": "64MiB"}}, "segment of the cache's own"),
        ("own", {"OPTIONS": {"SIZE": "lots"}}, "SIZE"),
        ("", {"OPTIONS": {"SERIALISER": "pickle"}}, "SERIALISER"),
        ("", {"OPTIONS": {"SERIALIZER": object}}, "no dumps"),
    ],
)
def test_settings_that_cannot_be_used(location: str, params: Any, message: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=message):
        make(location, **params)


def test_what_is_too_large_is_absent(logged: Callable[[], list[str]], cache: ZooCache) -> None:
    large = b"x" * 2**20
    cache.set("k", 1)
    cache.set("k", large)
    assert cache.get("k") is None
    assert cache.add("k", large) is False
    assert cache.get_or_set("k", lambda: large) == large
    cache.set("b", 1)
    assert cache.set_many({"a": 1, "b": large}) == ["b"]
    assert cache.get_many(["a", "b"]) == {"a": 1}
    assert [line for line in logged() if "TOO_LARGE" in line] == logged()[:1] == logged()
    large = b"x" * 100_000
    cache.set("k", large)
    assert cache.get("k") == large


class Renamed:
    pass


def test_what_cannot_be_loaded_is_a_miss(
    cache: ZooCache, logged: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.set_many({"k": Renamed(), "l": Renamed(), "n": 1}, None)
    monkeypatch.delattr("test_cache_backend.Renamed")
    assert cache.get("k", "default") == "default"
    assert cache.get_many(["k", "n"]) == {"n": 1}
    assert len(logged()) == 1
    with pytest.raises(ValueError, match="not found"):
        cache.incr("k")
    # It is computed once, not for ever; and of many at a time one stores it.
    assert cache.get_or_set("k", "new") == "new"
    assert cache.get("k") == "new"
    assert in_processes(4, lambda: cache.add("l", 1)).count(True) == 1


def test_a_segment_that_cannot_be_opened(named: str, logged: Callable[[], list[str]]) -> None:
    with open(path_of(named), "wb") as file:
        file.write(b"not a segment" * 1000)
    os.chmod(path_of(named), 0o600)
    try:
        cache = make(named)
        cache.set("k", 1)
        assert cache.get("k", "default") == "default"
        assert cache.add("k", 1) is False
        assert cache.get_or_set("k", lambda: 5) == 5
        assert cache.set_many({"a": 1}) == ["a"]
        assert cache.get_many(["a"]) == {}
        assert cache.touch("k") is cache.delete("k") is cache.has_key("k") is False
        with pytest.raises(ValueError, match="not found"):
            cache.incr("k")
        cache.delete_many(["k"])
        cache.clear()
        assert len(logged()) == 1
        assert named in logged()[0]
    finally:
        os.unlink(path_of(named))


def test_where_zoocache_is_off(cache: ZooCache) -> None:
    cache.set_many({"a": 1, "b": 1, "c": 1, "d": 1})
    zoocache.configure(enabled=False)
    assert cache.get("a") is None
    cache.set("a", 2)  # cannot be stored: nor may others go on with the old value
    cache.delete("b")
    assert cache.set_many({"c": 2}) == ["c"]
    zoocache.configure(enabled=True)
    assert cache.get_many("abcd") == {"d": 1}
    zoocache.configure(enabled=False)
    cache.clear()
    zoocache.configure(enabled=True)
    assert cache.get("d") is None


@pytest.mark.parametrize("own", [False, True])
def test_a_segment_that_is_replaced(own: bool, named: str, logged: Callable[[], list[str]]) -> None:
    cache = make(named) if own else make()
    name = named if own else store.settings().name
    operations: list[Callable[[], Any]] = [
        lambda: cache.get("k") == 1,
        lambda: cache.get_many(["k"]) == {"k": 1},
        lambda: cache.set("k", 2) is None and cache.get("k") == 2,
        lambda: cache.add("new", 1) is True,
        lambda: cache.add("k", 5) is False,
        lambda: cache.incr("k") == 2,
        lambda: cache.touch("k"),
        lambda: cache.delete("k"),
        lambda: cache.set_many({"k": 3}) == [] and cache.get("k") == 3,
        lambda: cache.clear() is None and cache.get("k") is None,
    ]
    for operation in operations:
        cache.set("k", 1)
        resize(name, 2 << 20)
        # Another process has found the new segment already.
        Cache(Segment(name)).set(cache._key("k", None), b"1", tags=cache._tags)
        assert operation()
        cache.clear()
    unlink(name)
    cache.set("k", 1)
    assert cache.get("k") == 1
    assert not [line for line in logged() if "dropped" in line or "off" in line]


def test_fork(cache: ZooCache, named: str) -> None:
    own = make(named)
    for each in (cache, own):
        each.set("k", 1)
        assert in_processes(2, lambda each=each: each.incr("k")).count(3) == 1
        assert each.get("k") == 3


def test_async_methods(cache: ZooCache, monkeypatch: pytest.MonkeyPatch) -> None:
    # None of them takes a thread.
    monkeypatch.setattr("django.core.cache.backends.base.sync_to_async", None)

    async def use() -> None:
        assert await cache.aadd("k", 1)
        assert not await cache.aadd("k", 1)
        assert await cache.aget("k") == 1
        assert await cache.aincr("k", 2) == 3
        assert await cache.adecr("k") == 2
        assert await cache.atouch("k", None)
        assert await cache.ahas_key("k")
        assert await cache.aincr_version("k") == 2
        assert await cache.adecr_version("k", version=2) == 1
        await cache.aset("l", "x", 10)
        assert await cache.aset_many({"m": 1}) == []
        assert await cache.aget_many(["k", "l", "m"]) == {"k": 2, "l": "x", "m": 1}
        assert await cache.aget_or_set("o", lambda: 5) == 5
        assert await cache.adelete("l")
        await cache.adelete_many(["m"])
        await cache.aclear()
        assert await cache.aget("k") is None
        await cache.aclose()

    asyncio.run(use())


# A site: sessions, cached pages and fragments, a limit of requests.

rendered: list[str] = []


def visits(request: HttpRequest) -> HttpResponse:
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(str(request.session["visits"]))


@cache_page(60)
def page(request: HttpRequest) -> HttpResponse:
    rendered.append("page")
    return HttpResponse(f"page {len(rendered)}")


def fragment(request: HttpRequest) -> HttpResponse:
    engine = Engine(libraries={"cache": "django.templatetags.cache"})
    text = "{% load cache %}{% cache 60 side who %}{{ note }}{% endcache %}"

    def note() -> str:
        rendered.append("fragment")
        return f"fragment {len(rendered)}"

    who = request.GET["who"]
    return HttpResponse(engine.from_string(text).render(Context({"note": note, "who": who})))


def allow(client: str, *, most: int, seconds: float) -> bool:
    cache = caches["default"]
    cache.add(f"rate-{client}", 0, seconds)
    try:
        return cache.incr(f"rate-{client}") <= most
    except ValueError:  # it expired in between, or there is no cache
        return True


def limited(request: HttpRequest) -> HttpResponse:
    return HttpResponse(status=200 if allow("me", most=3, seconds=60) else 429)


urlpatterns = [
    path("visits", visits),
    path("page", page),
    path("fragment", fragment),
    path("limited", limited),
]


@pytest.mark.parametrize("serializer", ["pickle", "zoocache"])
def test_a_site(serializer: str) -> None:
    rendered.clear()
    if serializer == "zoocache":
        urls = ["visits", "limited"]  # a response object is for pickle
    else:
        urls = ["visits", "limited", "page", "fragment"]
    with override_settings(
        CACHES={"default": {"BACKEND": BACKEND, "OPTIONS": {"SERIALIZER": serializer}}},
        SESSION_ENGINE="django.contrib.sessions.backends.cache",
        MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
        ROOT_URLCONF=__name__,
    ):
        one, two = Client(), Client()
        assert [one.get("/visits").content for _ in range(3)] == [b"1", b"2", b"3"]
        assert two.get("/visits").content == b"1"
        caches["default"].set("unrelated", 1)
        assert one.get("/visits").content == b"4"
        assert [one.get("/limited").status_code for _ in range(5)] == [200, 200, 200, 429, 429]
        if "page" in urls:
            assert {one.get("/page").content, two.get("/page").content} == {b"page 1"}
            first = one.get("/fragment?who=1").content
            assert one.get("/fragment?who=1").content == first
            assert one.get("/fragment?who=2").content != first
        caches["default"].clear()
        assert one.get("/visits").content == b"1"


def test_a_limit_holds_across_processes() -> None:
    with override_settings(CACHES={"default": {"BACKEND": BACKEND}}):
        caches["default"].get("k")
        allowed = in_processes(
            4, lambda: sum(allow("you", most=100, seconds=60) for _ in range(100))
        )
    assert sum(allowed) == 100
