"""The command `zoocache`, called in this process."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable

import click
import pytest
from click.testing import CliRunner, Result

import zoocache
from zoocache import codec, config
from zoocache.cli import app, commands, live, project, text
from zoocache.cli.screen import Worker
from zoocache.measure import SIZES
from zoocache.monitor import hit_ratio
from zoocache.shm import Cache, Segment, path_of, unlink

assert commands  # they have joined the group

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def without_django(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another test of this worker may have loaded a project."""
    monkeypatch.setattr(project, "is_set_up", lambda: False)
    monkeypatch.delenv(project.VARIABLE, raising=False)


@pytest.fixture
def run(default_cache: Cache) -> Run:
    """Runs the command on this test's segment; what it prints, and how it ends."""

    def run(*arguments: str, code: int = app.DONE, stdin: str | None = None) -> Result:
        result = CliRunner().invoke(app.cli, arguments, input=stdin, catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result

    return run


def test_every_command_has_a_help_that_says_what_it_is_for(run: Run) -> None:
    assert sorted(app.cli.commands) == [
        "bench", "clear", "destroy", "doctor", "get", "invalidate", "keys", "resize", "stat",
        "top", "why",
    ]  # fmt: skip
    whole = run("--help").output
    for name, command in app.cli.commands.items():
        assert name in whole
        told = run(name, "--help").output
        assert "--name" in told
        assert len(command.help or "") > 80
        for parameter in command.params:
            assert isinstance(parameter, click.Argument) or parameter.help, (name, parameter.name)
    for code in (app.DONE, app.NO, app.MISTAKE, app.UNUSABLE, app.INTERRUPTED):
        assert f"\n    {code} " in whole


class TestStat:
    def test_numbers(self, run: Run, default_cache: Cache) -> None:
        default_cache.set("key", b"v" * 1000, tags=["t"])
        for _ in range(3):
            default_cache.get("key")
        default_cache.get("absent")
        told = run("stat").output
        assert path_of(default_cache.segment.name) in told
        assert "75.0 % of 4 gets" in told
        assert "1 absent" in told
        assert "1 fresh" in told
        assert "\n  hits           3\n" in told

    def test_json(self, run: Run, default_cache: Cache) -> None:
        default_cache.set("key", b"v")
        default_cache.get("key")
        found = json.loads(run("stat", "--json").output)
        assert found["name"] == default_cache.segment.name
        assert found["size"] == default_cache.segment.size
        assert found["counters"] == default_cache.stats()
        assert found["hit_ratio"] == 1.0
        assert found["entries"]["fresh"] == found["index"]["entries"] == 1
        assert found["logs"]["main"]["written"] > 0

    def test_who_reads_and_how_long_it_takes(self, run: Run, default_cache: Cache) -> None:
        @zoocache.cacheable()
        def answer() -> list[int]:
            return [42]

        for _ in range(100):
            answer()
        zoocache.stats()  # what waits in this process is in the segment now
        found = json.loads(run("stat", "--json").output)
        (site,) = found["sites"]
        assert site["name"].endswith("answer")
        assert (site["kind"], site["hits"], site["misses"]) == ("function", 99, 1)
        assert found["hit_ratio"] == 0.99  # a miss counts once
        assert "99.0 % of 100 gets" in run("stat").output
        assert found["seconds"]["miss"]["count"] == 1
        assert 0 < found["seconds"]["get"]["median"] <= found["seconds"]["get"]["p99"]
        assert re.search(r"\na miss takes   [0-9.]+ (µs|ms) \(median\), ", run("stat").output)

    def test_no_get_yet(self, run: Run) -> None:
        assert json.loads(run("stat", "--json").output)["hit_ratio"] is None
        assert "hit ratio      - of 0 gets" in run("stat").output

    def test_no_segment(self, run: Run, default_cache: Cache) -> None:
        unlink(default_cache.segment.name)
        told = run("stat", code=app.NO).output
        assert f"there is no segment {path_of(default_cache.segment.name)}" in told
        assert "doctor" in told


class TestKeys:
    def test_text_and_bytes(self, run: Run, default_cache: Cache) -> None:
        default_cache.set("user:1", b"v")
        default_cache.set(b"\xff\x00", b"w")
        assert sorted(run("keys").output.split()) == ["0xff00", "user:1"]
        assert run("get", "0xff00").output == "w\n"

    def test_some_of_many(self, run: Run, default_cache: Cache) -> None:
        for number in range(300):
            default_cache.set(f"key:{number}", b"v")
        some = run("keys")
        assert len(some.stdout.split()) == 100
        assert "--limit 0" in some.stderr
        assert len(run("keys", "--limit", "0").stdout.split()) > 290
        assert sorted(run("keys", "--match", "key:1?").stdout.split()) == [
            f"key:{number}" for number in range(10, 20)
        ]
        exactly = run("keys", "--match", "key:1?", "--limit", "10")
        assert exactly.stderr == ""

    def test_long(self, run: Run, default_cache: Cache) -> None:
        default_cache.set("a", b"v" * 2048, tags=["x:y"], ttl=7300)
        default_cache.set("b", b"v")
        lines = sorted(run("keys", "--long").output.splitlines())
        assert lines[0].split() == ["1", "B", "0", "tags", "for", "ever", "b"]
        assert lines[1].split() == ["2.0", "KiB", "2", "tags", "2", "h", "a"]


class TestGet:
    def test_what_is_stored(self, run: Run, default_cache: Cache) -> None:
        default_cache.set("text", "Käse".encode())
        default_cache.set("bytes", b"\x80\x04\x95\x00")
        default_cache.set("result", codec.encode({"a": (1, 2)}))
        default_cache.set("rows", codec.encode_rows([(1, "tea"), (2, "coffee")]))
        assert run("get", "text").output == "Käse\n"
        assert run("get", "bytes").output == "b'\\x80\\x04\\x95\\x00'\n"
        assert run("get", "result").output == "{'a': (1, 2)}\n"
        assert run("get", "rows").output == "[(1, 'tea'), (2, 'coffee')]\n"
        assert run("get", "--raw", "bytes").stdout_bytes == b"\x80\x04\x95\x00"

    def test_a_pickle_is_not_run(self, run: Run, default_cache: Cache) -> None:
        default_cache.set("key", b"cos\nabort\n(tR.")
        run("get", "key")

    def test_what_is_not_there(self, run: Run, default_cache: Cache) -> None:
        assert "never stored" in run("get", "key", code=app.NO).output
        default_cache.set("key", b"v", tags=["t"])
        default_cache.invalidate("t")
        assert "it was invalidated" in run("get", "key", code=app.NO).output
        run("get", "0xf", code=app.MISTAKE)
        assert "cannot be empty" in run("get", "", code=app.MISTAKE).output


class TestWhy:
    def test_a_tag(self, run: Run) -> None:
        zoocache.invalidate("user:42")
        told = run("why", "user:42").output
        assert re.search(rf"user:42: \d+\.\d s ago by process {os.getpid()} \(invalidate", told)
        assert "is not a tag" in run("why", "a::b", code=app.MISTAKE).output

    def test_a_key(self, run: Run, default_cache: Cache) -> None:
        default_cache.set("key", b"v", tags=["t"])
        assert "key: a hit" in run("why", "--key", "key").output
        zoocache.invalidate("t")
        assert re.search(r"t: \d+\.\d s ago", run("why", "--key", "key", code=app.NO).output)

    def test_a_query_without_a_project(self, run: Run) -> None:
        told = run("why", "Product.cached.all()", code=app.MISTAKE).output
        assert "no Django project is loaded" in told


class TestChanges:
    def test_invalidate(self, run: Run, default_cache: Cache) -> None:
        default_cache.set("a", b"v", tags=["t:1"])
        default_cache.set("b", b"v", tags=["t:2"])
        default_cache.set("c", b"v", tags=["u"])
        assert "t:1, u" in run("invalidate", "t:1", "u").output
        assert default_cache.get_many(["a", "b", "c"]) == [None, b"v", None]
        assert "is not a tag" in run("invalidate", "a::b", code=app.MISTAKE).output
        run("invalidate", code=app.MISTAKE)

    def test_clear(self, run: Run, default_cache: Cache) -> None:
        default_cache.set("a", b"v")
        run("clear")
        assert default_cache.get("a") is None

    def test_nothing_to_drop_is_no_error(self, run: Run, default_cache: Cache) -> None:
        unlink(default_cache.segment.name)
        for command in (["clear"], ["invalidate", "t"]):
            result = run(*command)
            assert "Nothing to drop" in result.stderr
            assert not os.path.exists(path_of(default_cache.segment.name))

    def test_resize(self, run: Run, default_cache: Cache) -> None:
        default_cache.set("a", b"v")
        run("resize", "--yes", "2MiB")
        segment = Segment(default_cache.segment.name)
        assert segment.size == 2 << 20
        assert Cache(segment).get("a") is None
        assert "2MiBs" in run("resize", "--yes", "2MiBs", code=app.MISTAKE).output
        run("resize", "--yes", "1KiB", code=app.MISTAKE)

    def test_resize_takes_the_entry_size_of_the_settings(
        self, run: Run, default_cache: Cache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ZOOCACHE_ENTRY_SIZE", "700")
        run("resize", "--yes", "2MiB")
        assert Segment(default_cache.segment.name).entry_size == 700

    def test_destroy(self, run: Run, default_cache: Cache) -> None:
        run("destroy", "--yes")
        assert not os.path.exists(path_of(default_cache.segment.name))
        assert not os.path.exists(path_of(default_cache.segment.name) + ".lock")
        run("destroy", "--yes", code=app.NO)

    @pytest.mark.parametrize("command", [["destroy"], ["resize", "2MiB"]])
    def test_it_asks_before(
        self, command: list[str], run: Run, default_cache: Cache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert "add --yes" in run(*command, code=app.MISTAKE).output  # nobody is there
        monkeypatch.setattr("zoocache.cli.changing._is_asked", lambda: True)
        assert "Nothing was done" in run(*command, code=app.NO, stdin="n\n").output
        assert Segment(default_cache.segment.name).size == default_cache.segment.size
        run(*command, stdin="y\n")
        assert default_cache.segment.retired


class TestNames:
    def test_another_segment(self, run: Run, default_cache: Cache) -> None:
        other = Cache(Segment(f"{default_cache.segment.name}-o", 1 << 20))
        other.set("there", b"v")
        name = other.segment.name
        assert run("keys", "--name", name).output == "there\n"
        assert run("--name", name, "keys").output == "there\n"
        assert run("keys").output == ""
        run("clear", "--name", name)
        assert other.get("there") is None
        assert config.resolve().name == default_cache.segment.name  # as it was

    def test_a_name_that_is_none(self, run: Run) -> None:
        assert "name must be" in run("stat", "--name", "a/b", code=app.MISTAKE).output

    def test_one_that_cannot_be_used(self, run: Run, default_cache: Cache) -> None:
        os.chmod(path_of(default_cache.segment.name), 0o666)
        assert "open to other users" in run("stat", code=app.UNUSABLE).output


class TestDoctor:
    def test_a_problem(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        assert "ok " in run("doctor").output
        monkeypatch.setenv("ZOOCACHE_TTL", "soon")
        assert "ZOOCACHE_TTL" in run("doctor", code=app.NO).output

    def test_json(self, run: Run) -> None:
        found = json.loads(run("doctor", "--json").output)
        assert {finding["level"] for finding in found} >= {"ok"}
        assert all({*finding} == {"level", "what", "todo"} for finding in found)


class TestTop:
    def test_one_screen(self, run: Run, default_cache: Cache) -> None:
        default_cache.set("often", b"v" * 1000)

        def poll(self: live._Watched) -> None:
            for _ in range(2000):
                default_cache.get("often")
            zoocache.invalidate("price-list")
            original(self)

        original = live._Watched.poll
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(live._Watched, "poll", poll)
            told = run("top", "--once", "--interval", "0.3").output
        assert "hottest keys" in told
        assert "100.0 %" in told
        assert "often" in told
        assert "price-list" in told
        assert f"invalidate by {os.getpid()}" in told

    def test_a_segment_that_comes_and_goes(self, run: Run, default_cache: Cache) -> None:
        name = default_cache.segment.name
        watched = live._Watched(app.cache())
        console = live.Console(width=120, height=40, force_terminal=False)

        def shown() -> str:
            with console.capture() as capture:
                console.print(watched.screen(console))
            return capture.get()

        assert "hottest keys" in shown()
        unlink(name)
        watched.poll()
        assert "is gone" in shown()
        assert not os.path.exists(path_of(name))  # it makes none
        again = Cache(Segment(name, 2 << 20))
        assert "2.0 MiB" in shown()
        assert again.stats()["hits"] == 0

    @pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (160, 60)])
    def test_it_fits_the_terminal(self, width: int, height: int, default_cache: Cache) -> None:
        for number in range(200):
            default_cache.set(f"key:{number:060}", b"v" * 3000)
            for _ in range(50):
                default_cache.get(f"key:{number:060}")
            default_cache.invalidate(f"tag:{number:060}")
        watched = live._Watched(app.cache())
        for number in range(200):
            for _ in range(50):
                default_cache.get(f"key:{number:060}")
            watched.poll()
        watched._workers = [
            Worker(pid, 1e5, 1 << 30, 99.0, "stopped", "x" * 200) for pid in range(99999, 99000, -1)
        ]
        watched._next_workers = float("inf")
        console = live.Console(width=width, height=height, force_terminal=False)
        with console.capture() as capture:
            console.print(watched.screen(console))
        lines = capture.get().splitlines()
        assert len(lines) <= height
        assert max(map(len, lines)) <= width
        whole = "\n".join(lines)
        assert f"key:{0:04}" in whole
        assert "99999" in whole
        assert "99.0" in whole or "99 %" in whole

    def test_no_segment(self, run: Run, default_cache: Cache) -> None:
        unlink(default_cache.segment.name)
        run("top", "--once", code=app.NO)


def test_bench(run: Run, default_cache: Cache) -> None:
    """It measures all that it says, and leaves the user's segment alone."""
    before = default_cache.stats()
    found = json.loads(run("bench", "--seconds", "1.5", "--json").stdout)
    measured = {(one["what"], one["size"], one["who"]) for one in found["figures"]}
    for size in SIZES:
        assert ("invalidate a tag", size, "zoocache") in measured
        for what in ("hit", "store"):
            assert {(what, size, who) for who in ("dict", "in-process", "zoocache")} <= measured
    by = {(one["what"], one["size"], one["who"]): one["ns"] for one in found["figures"]}
    assert all(ns > 0 for ns in by.values())
    assert ("hit", "1 KiB", "@cacheable") in by
    assert found["scaling"][0]["processes"] == 1
    assert all(one["hits"] > 0 for one in found["scaling"])
    assert default_cache.stats() == before
    assert not os.path.exists(path_of(f"bench-{os.getpid()}"))


def test_bench_as_a_table(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    told = run("bench", "--seconds", "1").stdout
    assert "to in-process" in told
    assert "10 KiB" in told


def test_sizes() -> None:
    shown = [text.size(n) for n in (0, 1023, 1024, 1 << 30, 1 << 52)]
    assert shown == ["0 B", "1,023 B", "1.0 KiB", "1.0 GiB", "4,096.0 TiB"]


def test_hits_of_copies_count() -> None:
    assert hit_ratio({"hits": 1, "local": 2, "misses": 1}) == 0.75
    assert hit_ratio({"hits": 0, "local": 0, "misses": 0}) is None


def test_short_times() -> None:
    shown = [text.brief(seconds) for seconds in (None, 8.5e-7, 3.14e-6, 0.0123, 0.999, 61.2)]
    assert shown == ["-", "850 ns", "3.1 µs", "12 ms", "1000 ms", "61 s"]


def test_spans() -> None:
    shown = [text.span(seconds) for seconds in (-1, 119, 120, 7200, 2e6)]
    assert shown == ["0 s", "119 s", "2 min", "2 h", "23 d"]
