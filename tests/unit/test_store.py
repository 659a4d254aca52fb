"""The cache of a process: which segment it opens and when, and what becomes of errors."""

from __future__ import annotations

import itertools
import logging
import os
import subprocess
import sys
import textwrap
import threading
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import zoocache
from zoocache import config, store
from zoocache.exceptions import (
    ConfigError,
    SegmentError,
    SegmentFormatError,
    SegmentPermissionError,
    TagError,
)
from zoocache.shm import Cache, Outcome, Segment, path_of, unlink

MIB = 1 << 20
_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def clean(monkeypatch) -> Iterator[None]:
    """A process that has just been started, whatever ran in it before."""
    for key in config.KEYS:
        monkeypatch.delenv(f"ZOOCACHE_{key}", raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(config, "_sources", [])
        patch.setattr(config, "_overrides", {})
        patch.setattr(store, "_state", None)
        patch.setattr(store, "_logged", set())
        patch.setattr(store, "_frameworks", [])
        yield
    config.changed()


@pytest.fixture
def name() -> Iterator[str]:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw")
    run = os.environ.get("ZOOCACHE_TEST_RUN", "alone")
    made = f"test-{run}-{worker}-store-{next(_numbers)}"
    yield made
    for path in Path("/dev/shm").glob(f"zoocache-*-{made}*"):
        path.unlink()


@pytest.fixture
def now(monkeypatch) -> types.SimpleNamespace:
    """The time as the store sees it: `now.seconds += 1` passes one."""
    clock = types.SimpleNamespace(seconds=1000.0)
    clock.monotonic = lambda: clock.seconds
    monkeypatch.setattr(store, "time", clock)
    return clock


@pytest.fixture
def messages() -> Iterator[Callable[[], list[tuple[int, str]]]]:
    """What was logged so far, as (level, text); caplog begins anew with the call of the test."""
    seen: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = seen.append
    store.logger.addHandler(handler)
    yield lambda: [(record.levelno, record.getMessage()) for record in seen]
    store.logger.removeHandler(handler)


def exists(name: str) -> bool:
    return Path(path_of(name)).exists()


def garble(name: str) -> None:
    Segment(name, MIB)
    with open(path_of(name), "r+b") as file:
        file.seek(24)
        file.write(b"\xa5" * 32)


def opened() -> str:
    cache = store.cache()
    assert cache is not None
    return cache.segment.name


def run(script: str, **environment: str) -> list[str]:
    """What a script prints in a process of its own."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("ZOOCACHE_")}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**inherited, **environment}, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


class TestWhichSegment:
    def test_nothing_is_opened_before_the_first_use(self, name) -> None:
        script = """
            import os, zoocache
            from zoocache import store
            print(os.path.exists(zoocache.shm.path_of(store.config.resolve().name)))
            store.cache()
            print(os.path.exists(zoocache.shm.path_of(store.config.resolve().name)))
        """
        assert run(script, ZOOCACHE_NAME=name, ZOOCACHE_SIZE="1MiB") == ["False", "True"]

    def test_the_environment_then_a_framework_then_configure(self, name, monkeypatch) -> None:
        monkeypatch.setenv("ZOOCACHE_NAME", f"{name}-environment")
        monkeypatch.setenv("ZOOCACHE_SIZE", "2MiB")
        assert opened() == f"{name}-environment"
        assert store.cache().segment.size == 2 * MIB
        config.register_source(lambda: {"NAME": f"{name}-framework"}, label="framework {key}")
        assert opened() == f"{name}-framework"
        assert store.cache().segment.size == 2 * MIB
        zoocache.configure(name=f"{name}-given", size="1MiB")
        assert opened() == f"{name}-given"
        assert store.cache().segment.size == MIB

    def test_django_settings_stand_between(self, name) -> None:
        script = f"""
            import django
            from django.conf import settings
            from django.test import override_settings
            from zoocache import configure, store

            settings.configure(ZOOCACHE={{"NAME": "{name}-django"}})
            django.setup()
            print(store.cache().segment.name)  # Django's settings count once its layer is imported
            import zoocache.contrib.django
            print(store.cache().segment.name, store.cache().segment.size)
            with override_settings(ZOOCACHE={{"NAME": "{name}-override"}}):
                print(store.cache().segment.name)
            print(store.cache().segment.name)
            with override_settings(ZOOCACHE={{"ENABLED": False}}):
                print(store.cache())
            configure(name="{name}-given")
            print(store.cache().segment.name)
        """
        seen = run(script, ZOOCACHE_NAME=f"{name}-environment", ZOOCACHE_SIZE="1MiB")
        names = ["environment", "django", "override", "django", "given"]
        env, django, override, again, given = (f"{name}-{n}" for n in names)
        assert seen == [env, django, str(MIB), override, again, "None", given]

    def test_it_is_opened_once(self, name) -> None:
        zoocache.configure(name=name, size=MIB)
        assert store.cache() is store.cache()

    def test_threads_that_come_first_together_share_it(self, name, monkeypatch) -> None:
        zoocache.configure(name=name, size=MIB)
        together = threading.Barrier(8)

        def first_use() -> Cache | None:
            together.wait(10)
            return store.cache()

        with ThreadPoolExecutor(8) as pool:
            caches = [f.result() for f in [pool.submit(first_use) for _ in range(8)]]
        assert None not in caches
        for number, cache in enumerate(caches):
            cache.set(f"{number}", b"value")
        assert all(store.cache().get(f"{number}") == b"value" for number in range(8))

    def test_configure_refuses_at_once_and_keeps_what_was(self, name) -> None:
        zoocache.configure(name=name, size=MIB)
        with pytest.raises(ConfigError, match=r"configure\(size=\.\.\.\).*'lots'"):
            zoocache.configure(name=f"{name}-x", size="lots")
        assert opened() == name

    def test_one_made_with_another_size_is_used_and_noted(self, name, messages) -> None:
        Segment(name, 2 * MIB)
        zoocache.configure(name=name, size="4MiB")
        assert store.cache().segment.size == 2 * MIB
        ((level, text),) = messages()
        assert level == logging.WARNING
        for part in (path_of(name), str(2 * MIB), str(4 * MIB), "until it is removed"):
            assert part in text
        store.cache()
        assert len(messages()) == 1

    def test_one_made_for_entries_of_another_size_is_used_and_noted(self, name, messages) -> None:
        Segment(name, MIB, entry_size=200)
        zoocache.configure(name=name, size=MIB, entry_size="1KiB")
        assert store.cache().segment.entry_size == 200
        ((level, text),) = messages()
        assert level == logging.WARNING
        for part in (path_of(name), "200 bytes", "1024", "until it is replaced"):
            assert part in text

    def test_a_size_that_was_only_rounded_is_not_noted(self, name, messages) -> None:
        zoocache.configure(name=name, size=MIB + 4096)
        assert store.cache().segment.size == MIB
        assert messages() == []

    def test_it_survives_a_fork(self, name) -> None:
        script = """
            import os, zoocache
            from zoocache import store

            cache = store.cache()
            cache.set("parent", b"before")
            cache.set("doomed", b"x", tags=["Product:1"])
            assert cache.get("parent") == b"before"
            child = os.fork()
            if child == 0:
                mine = store.cache()
                ok = all(c.get("parent") == b"before" for c in (cache, mine, cache))
                ok = ok and mine.set("child", b"after") == 0
                zoocache.invalidate("Product")
                os._exit(0 if ok else 1)
            print(os.waitpid(child, 0)[1], cache.get("child"), cache.get("doomed"))
        """
        assert run(script, ZOOCACHE_NAME=name) == ["0", "b'after'", "None"]

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
    def test_a_child_that_becomes_another_user_has_another(self, name) -> None:
        script = """
            import os
            from zoocache import store

            store.cache().set("secret", b"of the parent")
            child = os.fork()
            if child == 0:
                os.setuid(65534)
                os._exit(0 if store.cache().get("secret") is None else 1)
            print(os.waitpid(child, 0)[1], store.cache().get("secret") is not None)
        """
        assert run(script, ZOOCACHE_NAME=name, ZOOCACHE_SIZE="1MiB") == ["0", "True"]
        assert Path(f"/dev/shm/zoocache-65534-{name}").exists()

    def test_a_child_is_not_stuck_on_a_lock_of_the_parent(self, name) -> None:
        script = """
            import os, signal
            from zoocache import store

            with store._lock:  # as if another thread were opening the segment
                child = os.fork()
                if child == 0:
                    signal.alarm(5)
                    os._exit(0 if store.cache() else 1)
                print(os.waitpid(child, 0)[1])
        """
        assert run(script, ZOOCACHE_NAME=name, ZOOCACHE_SIZE="1MiB") == ["0"]


class TestWithoutOne:
    @pytest.fixture
    def broken(self, name, now, messages) -> str:
        garble(name)
        zoocache.configure(name=name, size=MIB)
        assert store.cache() is None
        return name

    def test_it_is_asked_for_again_after_a_while_only(self, broken, now) -> None:
        unlink(broken)
        now.seconds += store.RETRY_SECONDS - 0.01
        assert store.cache() is None
        assert not exists(broken)
        now.seconds += 0.01
        assert opened() == broken
        now.seconds += 1e6
        assert store.cache() is store.cache()

    def test_configure_asks_again_at_once(self, broken, name) -> None:
        zoocache.configure(name=f"{name}-other")
        assert opened() == f"{name}-other"

    def test_one_line_says_why_and_what_to_do(self, broken, now, messages) -> None:
        for _ in range(3):
            now.seconds += store.RETRY_SECONDS
            assert store.cache() is None
        ((level, text),) = messages()
        assert level == logging.ERROR
        assert "the cache is off, everything is computed anew" in text
        assert f"the header of {path_of(broken)} is garbled" in text
        assert f"remove {path_of(broken)}" in text

    def test_another_reason_is_another_line(self, broken, now, messages) -> None:
        Path(path_of(broken)).chmod(0o666)
        now.seconds += store.RETRY_SECONDS
        assert store.cache() is None
        assert len(messages()) == 2
        assert "is open to other users" in messages()[1][1]

    def test_a_reason_with_changing_figures_is_one_line(self, name, now, messages) -> None:
        found = os.statvfs("/dev/shm")
        size = found.f_blocks * found.f_frsize + (1 << 30)
        zoocache.configure(name=name, size=size)
        for number in range(3):  # the message shows the free space
            Segment(f"{name}-{number}", MIB)
            now.seconds += store.RETRY_SECONDS
            assert store.cache() is None
        ((_, text),) = messages()
        assert f"no room for {size} bytes" in text
        assert "Choose a smaller size" in text

    def test_a_bad_setting_is_no_reason_to_fail_a_request(self, name, monkeypatch, messages):
        monkeypatch.setenv("ZOOCACHE_SIZE", "lots")
        assert store.cache() is None
        assert store.settings().enabled is False
        ((_, text),) = messages()
        assert "ZOOCACHE_SIZE environment variable" in text
        assert "size must be like 64MiB" in text

    def test_log_once(self, messages) -> None:
        for text in ("a", "a", "b", "a"):
            store.log_once(text)
        store.log_once("c, try 1", about="c")
        store.log_once("c, try 2", about="c")
        assert [text for _, text in messages()] == ["a", "b", "c, try 1"]


class TestDisabled:
    def test_it_opens_and_logs_nothing_ever(self, name, now, messages) -> None:
        zoocache.configure(name=name, enabled=False)
        for _ in range(3):
            assert store.cache() is None
            now.seconds += store.RETRY_SECONDS
        assert store.settings() == config.Settings(name=name, enabled=False)
        assert not exists(name)
        assert messages() == []

    def test_it_still_invalidates_for_the_others(self, name) -> None:
        others = Cache(Segment(name, MIB))
        others.set("key", b"value", tags=["Product:1"])
        others.set("other", b"value", tags=["Product:2"])
        zoocache.configure(name=name, enabled=False)
        zoocache.invalidate("Product:1")
        assert others.get("key") is None
        assert others.get("other") == b"value"
        zoocache.clear()
        assert others.get("other") is None

    def test_it_can_be_enabled_later(self, name) -> None:
        zoocache.configure(name=name, size=MIB, enabled=False)
        assert store.cache() is None
        zoocache.configure(enabled=True)
        assert opened() == name


class TestInvalidate:
    BAD_TAGS = ["", ":", "a:", ":a", "a::b", "a\0b", "\0", None, 5, b"Product", ["Product"]]

    @pytest.mark.parametrize("tag", BAD_TAGS, ids=repr)
    @pytest.mark.parametrize("segment", ["there", "absent"])
    def test_what_is_not_a_tag_is_refused_and_nothing_done(self, name, tag, segment) -> None:
        zoocache.configure(name=name, size=MIB, enabled=segment == "there")
        if segment == "there":
            store.cache().set("key", b"value", tags=["Product"])
        with pytest.raises(TagError, match="is not a tag"):
            zoocache.invalidate("Product", tag)
        if segment == "there":
            assert store.cache().get("key") == b"value"
        assert exists(name) == (segment == "there")

    def test_tags_are_a_hierarchy(self, name) -> None:
        zoocache.configure(name=name, size=MIB)
        cache = store.cache()
        tags = ["Product", "Product:42", "Product:category:5", "Other:42", "Prod", "Produkt:ä b"]

        def survivors(*invalidated: str) -> list[str]:
            for tag in tags:
                cache.set(tag, b"value", tags=[tag])
            zoocache.invalidate(*invalidated)
            return [tag for tag in tags if cache.get(tag)]

        assert survivors() == tags
        assert survivors("Product:category") == [t for t in tags if t != "Product:category:5"]
        assert survivors("Product") == ["Other:42", "Prod", "Produkt:ä b"]
        assert survivors("Product:42:deeper") == tags
        assert survivors("Product:42", "Produkt:ä b", "Product:42") == [
            "Product", "Product:category:5", "Other:42", "Prod",
        ]  # fmt: skip

    def test_where_there_is_no_segment_nothing_is_made(self, name) -> None:
        zoocache.configure(name=name, size=MIB, enabled=False)
        zoocache.invalidate("Product")
        zoocache.clear()
        assert zoocache.stats() == {}
        assert not exists(name)

    @pytest.mark.parametrize(
        ("spoil", "error"),
        [
            (garble, SegmentFormatError),
            (lambda name: os.chmod(path_of(name), 0o666), SegmentPermissionError),
        ],
    )
    @pytest.mark.parametrize("enabled", [True, False])
    def test_one_that_is_there_and_out_of_reach_is_an_error(self, name, spoil, error, enabled):
        Segment(name, MIB)
        spoil(name)
        zoocache.configure(name=name, enabled=enabled)
        for call in (lambda: zoocache.invalidate("Product"), zoocache.clear, zoocache.stats):
            with pytest.raises(error) as caught:
                call()
            assert isinstance(caught.value, SegmentError)

    @pytest.mark.parametrize("enabled", [True, False])
    def test_one_of_a_newer_layout_is_cleared(self, name, enabled) -> None:
        """Workers that were not restarted since an upgrade still write."""
        newer = Cache(Segment(name, MIB))
        newer.set("key", b"value", tags=["Product:1"])
        stamp = newer.stamp()
        with open(path_of(name), "r+b") as file:
            file.seek(8)
            file.write((999).to_bytes(4, "little"))
        zoocache.configure(name=name, enabled=enabled)
        zoocache.invalidate("Product:2")  # what it cannot read, it drops whole
        assert newer.get("key") is None
        assert newer.fill("key", b"old", stamp) is Outcome.BORN_DEAD
        newer.set("key", b"value")
        zoocache.clear()
        assert newer.get("key") is None

    def test_statistics_count_for_the_whole_host(self, name) -> None:
        zoocache.configure(name=name, size=MIB)
        store.cache().set("key", b"value")
        other = Cache(Segment(name))
        other.get("key")
        other.get("absent")
        zoocache.invalidate("Product:1", "Product:2")
        stats = zoocache.stats()
        expected = {"hits": 1, "misses": 1, "absent": 1, "sets": 1, "invalidations": 1, "tags": 2}
        assert {key: stats[key] for key in expected} == expected


class Shop:
    """A framework with "product" for "Product", and a transaction."""

    def __init__(self, **answers) -> None:
        self.observed: list[object] = []
        self.answer = store.Guard(**{"stamp": None, "clean": True, **answers})

    def expand(self, tag):
        return [f"@{tag.lower()}"]

    def depend(self, tag):
        return [f"@{tag.lower()}"] if tag.startswith("Product") else []

    def observe(self, tags):
        self.observed.append(None if tags is None else list(tags))

    def allows_local(self):
        return True

    def guard(self):
        return self.answer


class TestFrameworks:
    def test_they_add_to_what_a_tag_means(self, name) -> None:
        shop = Shop()
        store.register_framework(shop)
        zoocache.configure(name=name, size=MIB)
        store.cache().set("key", b"value", tags=["@product:1"])
        zoocache.invalidate("Product:1", "Other")
        assert store.cache().get("key") is None
        assert shop.observed == [["Product:1", "Other", "@product:1", "@other"]]
        zoocache.clear()
        assert shop.observed[1:] == [None]
        assert store.meaning(["Product:1", "Other"]) == {"Product:1", "Other", "@product:1"}

    def test_they_are_not_told_of_what_was_refused(self, name) -> None:
        shop = Shop()
        store.register_framework(shop)
        with pytest.raises(TagError):
            zoocache.invalidate("Product", "")
        assert shop.observed == []

    def test_bump_is_past_them(self, name) -> None:
        shop = Shop()
        store.register_framework(shop)
        zoocache.configure(name=name, size=MIB)
        store.cache().set("key", b"value", tags=["@product:1"])
        store.bump(["Product:1"])
        assert store.cache().get("key") == b"value"
        store.bump(["@product"])
        assert store.cache().get("key") is None
        assert shop.observed == []

    def test_the_strictest_guard_counts(self) -> None:
        assert store.guard() == store.Guard(None, True, usual=True)
        for answers in ({"stamp": 7}, {}, {"stamp": 5}):
            store.register_framework(Shop(**answers))
        assert store.guard() == store.Guard(5, True)
        store.register_framework(Shop(clean=False))
        assert store.guard() == store.Guard(5, False)
