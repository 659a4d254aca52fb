"""`manage.py zoocache`: the command with the project's settings, models and tags."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from shop import stock
from shop.models import Product

from zoocache import store
from zoocache.cli import app, commands, project
from zoocache.contrib.django import checks
from zoocache.contrib.django.management.commands.zoocache import Command

assert commands


@pytest.fixture(autouse=True)
def stocked(sqlite: Any) -> None:
    stock.fill()


def command(*args: str, **options: Any) -> str:
    out = StringIO()
    call_command("zoocache", *args, stdout=out, **options)
    return out.getvalue()


def fails(*args: str) -> CommandError:
    with pytest.raises(CommandError) as caught:
        command(*args)
    return caught.value


def get() -> Product:
    return Product.cached.get(pk=1)


def test_every_command_of_zoocache_is_there() -> None:
    get()
    for name in ("stat", "keys", "doctor", "clear"):
        command(name)
    assert {"stat", "top", "why", "keys", "get", "invalidate", "clear", "resize", "doctor",
            "destroy", "bench"} == set(app.cli.commands)  # fmt: skip


def test_stat_is_of_the_segment_of_the_settings() -> None:
    get()
    get()
    found = json.loads(command("stat", "--json"))
    target = store.cache()
    assert target is not None
    assert found["name"] == target.segment.name
    assert found["counters"]["hits"] >= 1


def test_keys_and_values() -> None:
    get()
    (key,) = command("keys").split()
    assert "'" in command("get", key)
    told = command("why", "--key", key)
    assert told.startswith("query ")
    assert "writes to unknown rows of shop_product" in told


def test_top_names_tables_and_rows() -> None:
    get()
    get()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "240")
        Product.objects.filter(pk=1).update(name="new")
        told = command("top", "--once", "--interval", "0.2")
    assert f"commit by {os.getpid()} " in told
    assert "any write to shop_product" in told
    assert "row 1 of shop_product" in told


class TestInvalidate:
    def test_a_row(self, queries: Callable[..., Any]) -> None:
        get()
        Product.cached.get(pk=2)
        command("invalidate", "Product:1")
        with queries(1):
            get()
            Product.cached.get(pk=2)

    def test_everything(self, queries: Callable[..., Any]) -> None:
        get()
        command("clear")
        with queries(1):
            get()


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["stats"], "No such command 'stats'. Did you mean 'stat'?"),
            (["invalidate", "a::b"], "is not a tag"),
            (["why", "a::b"], "is not a tag"),
            (["why", "Product.cached.filter("], "neither a tag nor a query"),
            (["why", "Product.cached.get(pk=-1)"], "raised DoesNotExist"),
            (["resize", "--yes", "big"], "size must be like 64MiB"),
        ],
    )
    def test_they_are_told_in_one_sentence(self, arguments: list[str], told: str) -> None:
        error = fails(*arguments)
        assert told in str(error)
        assert error.returncode == app.MISTAKE

    def test_no(self) -> None:
        assert fails("get", "nothing").returncode == app.NO

    def test_an_answer_of_no_without_an_error(self) -> None:
        with pytest.raises(SystemExit) as caught:
            command("why", "--key", "nothing")
        assert caught.value.code == app.NO

    def test_a_missing_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "rich", None)
        for name in tuple(sys.modules):
            if name.startswith(("rich.", "zoocache.cli.live")):
                monkeypatch.delitem(sys.modules, name)
        assert 'needs rich: pip install "zoocache[cli]"' in str(fails("top", "--once"))


class TestCommandLine:
    """What Django's parser must leave alone."""

    def run(self, *arguments: str) -> tuple[int, str]:
        out, code = StringIO(), 0
        with contextlib.redirect_stdout(out):
            try:
                Command(stdout=out).run_from_argv(["manage.py", "zoocache", *arguments])
            except SystemExit as end:
                code = int(end.code or 0)
        return code, out.getvalue()

    @pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
    def test_help_is_the_group_s(self, arguments: list[str]) -> None:
        code, told = self.run(*arguments)
        assert "zoocache doctor" in told
        assert "Exit codes" in told
        assert code == 0

    def test_help_of_a_command(self) -> None:
        assert "price-list" in self.run("invalidate", "--help")[1]

    def test_names(self) -> None:
        get()
        target = store.cache()
        assert target is not None
        name = target.segment.name
        for arguments in (["--name", name, "stat"], [f"--name={name}", "stat"]):
            assert name in self.run(*arguments)[1]
        assert name in self.run("stat", "--name", name)[1]

    def test_django_s_own_options(self) -> None:
        get()
        assert "hits" in self.run("--traceback", "stat")[1]

    def test_exit_codes(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.run("stats")[0] == app.MISTAKE
        assert self.run("get", "nothing")[0] == app.NO
        assert "nothing is a miss" in capsys.readouterr().err


def test_the_doctor_says_what_the_checks_do(monkeypatch: pytest.MonkeyPatch) -> None:
    get()
    monkeypatch.setattr(
        checks, "run_checks", lambda **kwargs: [checks.Warning("hm", hint="do", id="zoocache.W010")]
    )
    assert "warning  hm (zoocache.W010)\n           do\n" in command("doctor")


def test_names_of_tags_are_in_words() -> None:
    get()
    target = store.cache()
    assert target is not None
    from zoocache.shm.events import hash_of

    names = project.names_for(target)
    assert names.of(hash_of(target, "@shop_product:any")) == "any write to shop_product"
    assert names.of(hash_of(target, "@shop_product:mem:category_id")) == (
        "any change of shop_product.category_id"
    )
