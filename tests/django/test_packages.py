"""Packages that many projects use: what is cached of their models is what the database holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parent / "packages_project"
# Of these not all is cached, and why. What the others read a second time takes no query.
SOME = {
    "polymorphic": "it reads the rows of each class with a plain manager",
    "model_utils": "FieldTracker reads the database when an instance is made",
    "taggit": "its prefetch_related uses extra(): SQL of the user's",
    "safedelete": "its query class decides while it is compiled what it reads",
    "django_cte": "its query class writes SQL of its own",
}
ALL = ["djmoney", "modeltranslation", "mptt", "ordered_model", "parler", "simple_history"]
ALL += ["treebeard"]


def ask(script: str, *args: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", PROJECT / script, *args],
        env={**os.environ, "ZOOCACHE_SIZE": "2MiB"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    if "ModuleNotFoundError" in done.stderr and "ZOOCACHE_TEST_SERVICES" not in os.environ:
        pytest.skip(f"{done.stderr.splitlines()[-1]}: pip install '.[test]'")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return ask("compare.py", str(tmp_path_factory.mktemp("packages") / "db.sqlite3"))


@pytest.mark.parametrize("package", [*ALL, *SOME])
def test_what_is_cached_is_what_is_there(compared: Any, package: str) -> None:
    told = compared[package]
    assert told["differ"] == []
    assert told["reads"] > 0
    assert (told["queries"] == 0) is (package in ALL)


def test_every_package_is_looked_at(compared: Any) -> None:
    assert sorted(compared) == sorted([*ALL, *SOME])


@pytest.mark.parametrize("scope", [True, False], ids=["scope", "none"])
def test_tenants(
    postgres: Any, scope: bool, monkeypatch: pytest.MonkeyPatch, short_name: str
) -> None:
    """Of django-tenants: nobody gets another's rows, and with a SCOPE their own are cached."""
    monkeypatch.setenv("ZOOCACHE_NAME", short_name)
    keys = "HOST", "PORT", "NAME", "USER", "PASSWORD"
    database = {key: postgres.settings_dict[key] for key in keys}
    told = ask("tenants.py", json.dumps(database), *["scope"] * scope)
    assert told["differ"] == []
    assert told["warned"] == ([] if scope else ["zoocache.W014"])
    assert (told["hits"] > 0) is scope
