"""System checks: each finds what it is for, says what to do, and nothing else."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, run_checks
from django.db import connections
from django.db.models.sql.compiler import SQLCompiler, SQLInsertCompiler, SQLUpdateCompiler
from django.test import override_settings

from zoocache import config, host, store
from zoocache.contrib.django import checks
from zoocache.contrib.django.databases import is_replica
from zoocache.findings import Level
from zoocache.shm import path_of, unlink

pytestmark = pytest.mark.usefixtures("zoo")

POSTGRES = {
    "ENGINE": "django.db.backends.postgresql", "NAME": "shop", "HOST": "db1", "PORT": 5432,
}  # fmt: skip


def found(*, deploy: bool = False) -> list[CheckMessage]:
    return run_checks(tags=[checks.TAG], include_deployment_checks=deploy)


def only(**given: Any) -> CheckMessage:
    (message,) = found(**given)
    assert message.hint
    return message


@contextmanager
def aliases(**databases: dict[str, Any]) -> Iterator[None]:
    """Further aliases, none of which is ever connected."""
    before = copy.copy(connections.settings)
    for alias, database in databases.items():
        connections.settings[alias] = {
            **copy.deepcopy(before["default"]), "OPTIONS": {}, **copy.deepcopy(database),
        }  # fmt: skip
    try:
        yield
    finally:
        for alias in databases:
            connections.settings.pop(alias)
            if hasattr(connections._connections, alias):
                delattr(connections._connections, alias)


def name() -> str:
    return config.resolve().name


def test_a_sound_project_has_no_message() -> None:
    assert found() == []
    assert found(deploy=True) == []
    assert checks.findings() == []


def test_the_app_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apps, "is_installed", lambda label: False)
    message = only()
    assert message.id == "zoocache.I001"
    assert not message.is_serious()


class TestHooks:
    @pytest.mark.parametrize("compiler", [SQLCompiler, SQLInsertCompiler, SQLUpdateCompiler])
    def test_a_compiler(self, compiler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        original = compiler.execute_sql

        @functools.wraps(original)
        def wrapping(self: Any, *args: Any) -> Any:
            return original(self, *args)

        monkeypatch.setattr(compiler, "execute_sql", wrapping)
        assert found() == []
        monkeypatch.setattr(compiler, "execute_sql", lambda self, *args: None)
        message = only()
        assert message.id == "zoocache.W012"
        assert message.msg.startswith(f"{compiler.__name__}.execute_sql was replaced")

    def test_a_connection(self, sqlite: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        sqlite.ensure_connection()
        monkeypatch.setattr(sqlite, "execute_wrappers", sqlite.execute_wrappers[1:])
        message = only()
        assert message.id == "zoocache.W012"
        assert "connections['default']" in message.msg


class TestSegment:
    def test_there_is_no_room(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(host, "room", lambda: host.Room(64 << 20, 1 << 10))
        message = only()
        assert message.id == "zoocache.W004"
        assert "shm_size" in message.hint
        store.cache()  # it is there now, and has its room
        assert found() == []

    def test_another_user_has_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        file = host.Found(os.geteuid() + 1, name(), "", Path("/dev/shm/x"), 1 << 20, 0o600, 0.0, 1)
        monkeypatch.setattr(host, "files", lambda: [file])
        message = only()
        assert message.id == "zoocache.W005"
        assert "neither read it nor invalidate in it" in message.msg

    def test_it_cannot_be_attached(self) -> None:
        store.cache()
        os.chmod(path_of(name()), 0o644)
        (message,) = found()
        assert message.id == "zoocache.E002"
        assert message.is_serious()
        unlink(name())
        assert found() == []

    @pytest.mark.parametrize(("version", "ids"), [(2, []), (999, ["zoocache.E002"])])
    def test_it_is_of_another_version(self, version: int, ids: list[str]) -> None:
        """An upgrade must not stop `manage.py migrate`: the first worker replaces the segment."""
        store.cache()
        with open(path_of(name()), "r+b") as file:
            file.seek(8)
            file.write(version.to_bytes(4, "little"))
        assert [message.id for message in found()] == ids
        unlink(name())


class TestReplicas:
    def test_an_alias_that_looks_like_one(self) -> None:
        with aliases(main=POSTGRES, second=POSTGRES | {"HOST": "db2"}):
            message = only()
            assert message.id == "zoocache.W006"
            assert "['second'] and ['main']" in message.msg
            for lag in ({"second": 2}, {"main": 2}):
                with override_settings(ZOOCACHE={"MAX_LAG": lag}):
                    assert found() == []

    @pytest.mark.parametrize("differs", [{"NAME": "other"}, {"HOST": "db1"}])
    def test_one_that_is_none(self, differs: dict[str, Any]) -> None:
        with aliases(main=POSTGRES, second=POSTGRES | {"HOST": "db2"} | differs):
            assert found() == []

    def test_a_declared_one_without_a_lag(self) -> None:
        replica = POSTGRES | {"HOST": "db2", "TEST": {"MIRROR": "main"}}
        with aliases(main=POSTGRES, second=replica):
            assert is_replica(connections["second"])
            message = only()
            assert message.id == "zoocache.W007"
            assert "nothing that is read from it is cached" in message.msg
            with override_settings(ZOOCACHE={"MAX_LAG": {"second": 2}}):
                assert found() == []

    def test_a_lag_of_no_alias(self) -> None:
        with override_settings(ZOOCACHE={"MAX_LAG": {"replicant": 2}}):
            message = only()
        assert message.id == "zoocache.W007"
        assert "replicant" in message.msg


class TestPoolers:
    @pytest.mark.parametrize(
        "through",
        [{"PORT": "6432"}, {"PORT": 6432}, {"HOST": "pgbouncer.internal"},
         {"DISABLE_SERVER_SIDE_CURSORS": True}],
    )  # fmt: skip
    def test_one_in_between(self, through: dict[str, Any]) -> None:
        with aliases(main=POSTGRES | through):
            message = only()
            assert message.id == "zoocache.W008"
            assert "60 s (QUARANTINE)" in message.msg
        bounded = {"OPTIONS": {"options": "-c statement_timeout=30s"}}
        with aliases(main=POSTGRES | through | bounded):
            assert found() == []


class TestIsolation:
    @pytest.mark.parametrize(
        "database",
        [POSTGRES | {"OPTIONS": {"isolation_level": "postgres"}},
         {"ENGINE": "django.db.backends.mysql", "OPTIONS": {"isolation_level": "serializable"}}],
        ids=["postgresql", "mysql"],
    )  # fmt: skip
    @pytest.mark.parametrize("atomic", [False, True])
    def test_serializable(self, database: dict[str, Any], atomic: bool) -> None:
        if database["ENGINE"].endswith("mysql"):
            pytest.importorskip("pymysql").install_as_MySQLdb()
        else:
            from django.db.backends.postgresql.psycopg_any import IsolationLevel

            database = POSTGRES | {"OPTIONS": {"isolation_level": int(IsolationLevel.SERIALIZABLE)}}
        with aliases(main=database | {"ATOMIC_REQUESTS": atomic}):
            message = only()
        assert message.id == "zoocache.W009"
        assert ("ATOMIC_REQUESTS" in message.msg) is atomic

    def test_other_levels(self) -> None:
        with aliases(main=POSTGRES | {"OPTIONS": {"isolation_level": 1}}):
            assert found() == []

    def test_tenants(self) -> None:
        with aliases(main=POSTGRES):
            connections["main"].schema_name = "public"  # as django-tenants' has it
            message = only()
            assert message.id == "zoocache.W014"
            with override_settings(ZOOCACHE={"SCOPE": lambda connection: ""}):
                assert found() == []


class TestSessions:
    ENGINE = "django.contrib.sessions.backends.cache"
    BACKEND = "zoocache.contrib.django.cache.ZooCache"

    def test_in_the_cache_alone(self) -> None:
        with override_settings(
            SESSION_ENGINE=self.ENGINE, CACHES={"default": {"BACKEND": self.BACKEND}}
        ):
            message = only()
        assert message.id == "zoocache.W010"

    def test_elsewhere(self) -> None:
        local = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
        with override_settings(SESSION_ENGINE=self.ENGINE, CACHES=local):
            assert found() == []
        engine = "django.contrib.sessions.backends.cached_db"
        with override_settings(
            SESSION_ENGINE=engine, CACHES={"default": {"BACKEND": self.BACKEND}}
        ):
            assert found() == []


class TestPickles:
    BACKEND = "zoocache.contrib.django.cache.ZooCache"

    def test_in_a_segment_that_a_group_shares(self) -> None:
        options = {"pickle": {}, "codec": {"OPTIONS": {"SERIALIZER": "zoocache"}}}
        caches = {alias: {"BACKEND": self.BACKEND, **given} for alias, given in options.items()}
        with override_settings(CACHES={"default": caches["codec"], **caches}):
            assert found() == []
            with override_settings(ZOOCACHE={"GROUP": os.getegid()}):
                message = only()
        assert message.id == "zoocache.W013"
        assert "CACHES['pickle']" in message.msg


class TestReadingOwnWrites:
    def test_half_of_it(self) -> None:
        middleware, router = checks._READ_YOUR_WRITES
        with override_settings(MIDDLEWARE=[middleware]):
            message = only()
            assert message.id == "zoocache.W011"
            assert "DATABASE_ROUTERS" in message.hint
        routers = settings.DATABASE_ROUTERS
        with override_settings(DATABASE_ROUTERS=[router, *routers]):
            assert "MIDDLEWARE" in only().hint
        with override_settings(MIDDLEWARE=[middleware], DATABASE_ROUTERS=[router, *routers]):
            assert found() == []


class TestProduction:
    """`check --deploy` only."""

    @pytest.mark.parametrize(
        ("given", "number"),
        [
            ({"DEBUG": True}, "W020"),
            ({"ZOOCACHE": {"SHADOW": 1}}, "W021"),
            ({"ZOOCACHE": {"EVERYTHING": True}}, "W022"),
        ],
    )
    def test_what_is_for_development(self, given: dict[str, Any], number: str) -> None:
        with override_settings(**given):
            assert found() == []
            assert only(deploy=True).id == f"zoocache.{number}"

    def test_a_little_shadow(self) -> None:
        with override_settings(ZOOCACHE={"SHADOW": 0.01}):
            assert found(deploy=True) == []

    def test_switched_off(self) -> None:
        config.set_overrides(enabled=False)
        assert only(deploy=True).id == "zoocache.W023"

    def test_a_wrong_key_is_said_once(self) -> None:
        with override_settings(ZOOCACHE={"SHADOW": 7}):
            (message,) = found(deploy=True)
        assert message.id == "zoocache.E001"


def test_the_doctor_gets_them_in_its_words() -> None:
    with aliases(main=POSTGRES | {"PORT": 6432}):
        (finding,) = checks.findings()
    assert finding.level is Level.WARNING
    assert "(zoocache.W008)" in finding.what
    assert "statement_timeout" in finding.todo


def test_what_is_silenced_is_not_told() -> None:
    with (
        aliases(main=POSTGRES | {"PORT": 6432}),
        override_settings(SILENCED_SYSTEM_CHECKS=["zoocache.W008"]),
    ):
        assert checks.findings() == []
