"""The command `zoocache` as a user runs it: exit codes, one sentence for a mistake, a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyte
import pytest

import zoocache
from zoocache.shm import Cache, Segment, path_of

COMMAND = Path(sys.executable).with_name("zoocache")
LINES, COLUMNS = 40, 140
SOON = 60.0  # seconds, for what takes one on an idle machine


@pytest.fixture
def cache(short_name: str) -> Cache:
    cache = Cache(Segment(short_name, 1 << 20))
    cache.set("user:1", b"Ann", tags=["user:1"])
    return cache


@pytest.fixture
def environment(short_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOOCACHE_NAME", short_name)
    monkeypatch.setenv("ZOOCACHE_SIZE", "1MiB")
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)


pytestmark = [
    pytest.mark.usefixtures("environment"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]


def run(
    *arguments: str, code: int = 0, cwd: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [COMMAND, *arguments],
        cwd=cwd, env=os.environ | variables, text=True, capture_output=True,
        stdin=subprocess.DEVNULL, timeout=SOON,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == code, done.stdout + done.stderr
    return done


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments],
        text=True, capture_output=True, timeout=SOON,
    )  # fmt: skip


class TestExitCodes:
    def test_done(self, cache: Cache) -> None:
        assert run("get", "user:1").stdout == "Ann\n"
        assert run("--version").stdout == f"zoocache, version {zoocache.__version__}\n"
        module = [sys.executable, "-W", "error", "-m", "zoocache", "get", "user:1"]
        assert subprocess.run(module, capture_output=True, timeout=SOON).stdout == b"Ann\n"

    def test_no(self, cache: Cache) -> None:
        assert run("get", "user:2", code=1).stderr.startswith("Error: user:2 is a miss")
        assert "there is no segment" in run("stat", "--name", "nobody-s", code=1).stderr

    @pytest.mark.parametrize(
        "arguments",
        [["stats"], ["stat", "--jason"], ["get"], ["invalidate", "a::b"], ["resize", "big"],
         ["destroy"], ["keys", "--limit", "-1"], ["top", "--interval", "0"], ["get", "0xzz"]],
        ids=" ".join,
    )  # fmt: skip
    def test_a_mistake(self, arguments: list[str], cache: Cache) -> None:
        done = run(*arguments, code=2)
        assert done.stdout == ""
        assert "Error" in done.stderr

    def test_a_setting_that_cannot_be_used(self, cache: Cache) -> None:
        told = run("stat", code=2, ZOOCACHE_NAME="a/b").stderr
        assert "ZOOCACHE_NAME environment variable" in told
        assert "ZOOCACHE_SIZE" in run("doctor", code=1, ZOOCACHE_SIZE="much").stdout

    def test_a_segment_that_cannot_be_used(self, cache: Cache, short_name: str) -> None:
        Path(path_of(short_name)).write_bytes(b"not a segment" * 1000)
        for command in ("stat", "clear", "keys"):
            assert "is not a segment" in run(command, code=3).stderr
        run("destroy", "--yes")
        run("stat", code=1)

    def test_interrupted(self, cache: Cache) -> None:
        process = subprocess.Popen(
            [COMMAND, "top", "--once", "--interval", "60"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        wait_until_it_uses(cache, process.pid)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=SOON)
        assert process.returncode == 130
        assert told.strip() == "Interrupted."


def wait_until_it_uses(cache: Cache, pid: int) -> None:
    """A process attaches after its signal handlers are set."""
    path, end = path_of(cache.segment.name), time.monotonic() + SOON
    while path not in Path(f"/proc/{pid}/maps").read_text():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_reader_that_goes_away(cache: Cache) -> None:
    """`zoocache keys | head -1`."""
    for number in range(3000):
        cache.set(f"{number}-{'x' * 150}", b"v")
    process = subprocess.Popen(
        [COMMAND, "keys", "--limit", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(SOON) == 0


def test_a_reader_that_was_never_there(cache: Cache) -> None:
    """What fits a buffer is written at the end, when nobody catches what goes wrong."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [COMMAND, "get", "user:1"], stdout=writer, stderr=subprocess.PIPE, timeout=SOON
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_raw_values_are_not_touched(cache: Cache) -> None:
    value = bytes(range(256)) * 100
    cache.set("bytes", value)
    done = subprocess.run([COMMAND, "get", "--raw", "bytes"], capture_output=True, timeout=SOON)
    assert done.stdout == value


class TestMissingExtras:
    WITHOUT = """
        import sys
        without, *sys.argv[1:] = sys.argv[1:]
        sys.modules[without] = None
        from zoocache.cli import main
        main()
    """

    @pytest.mark.parametrize(
        ("missing", "command"), [("click", "stat"), ("rich", "top"), ("psutil", "top")]
    )
    def test_one_sentence(self, missing: str, command: str, cache: Cache) -> None:
        done = python(self.WITHOUT, missing, command)
        assert done.returncode == 2
        assert f'needs {missing}: pip install "zoocache[cli]"' in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1

    def test_what_needs_no_more_than_click(self, cache: Cache) -> None:
        for missing in ("rich", "psutil"):
            done = python(self.WITHOUT, missing, "get", "user:1")
            assert (done.returncode, done.stdout) == (0, "Ann\n"), done.stderr


class TestProject:
    """DJANGO_SETTINGS_MODULE."""

    @pytest.fixture
    def folder(self, tmp_path: Path, short_name: str) -> Path:
        files = {
            "site_settings.py": f"""
                SECRET_KEY = "x"
                INSTALLED_APPS = ["zoocache.contrib.django", "shelf"]
                DATABASES = {{"default": {{
                    "ENGINE": "django.db.backends.sqlite3", "NAME": {str(tmp_path / "db")!r},
                }}}}
                DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
                ZOOCACHE = {{"NAME": {short_name + "-p"!r}, "SIZE": "2MiB"}}
            """,
            "shelf/__init__.py": "",
            "shelf/models.py": """
                from django.db import models
                from zoocache.contrib.django import ZooCacheManager

                class Product(models.Model):
                    name = models.CharField(max_length=9)
                    objects = ZooCacheManager()
            """,
            "fill.py": """
                import django
                django.setup()
                from django.core.management import call_command
                from shelf.models import Product
                call_command("migrate", run_syncdb=True, verbosity=0)
                Product.objects.create(name="tea")
                assert [p.name for p in Product.cached.all()] == ["tea"]
            """,
        }
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(textwrap.dedent(content))
        return tmp_path

    def test_its_settings_and_its_models(self, folder: Path, short_name: str) -> None:
        project = {"DJANGO_SETTINGS_MODULE": "site_settings"}
        subprocess.run(
            [sys.executable, "fill.py"], cwd=folder, env=os.environ | project, check=True,
            timeout=SOON,
        )  # fmt: skip
        found = json.loads(run("stat", "--json", cwd=folder, **project).stdout)
        assert found["name"] == short_name + "-p"
        assert found["size"] == 2 << 20
        (key,) = run("keys", cwd=folder, **project).stdout.split()
        assert "[(1, 'tea')]" in run("get", key, cwd=folder, **project).stdout
        told = run("why", "--key", key, cwd=folder, **project).stdout
        assert "any write to shelf_product" in told
        query = "Product.cached.all()"
        assert "a hit" in run("why", query, cwd=folder, **project).stdout
        run("invalidate", "Product", cwd=folder, **project)
        assert "a miss" in run("why", query, cwd=folder, **project).stdout
        told = run("top", "--once", "-i", "0.2", cwd=folder, COLUMNS="150", **project).stdout
        assert "all of shelf_product" in told
        assert "zoocache.W0" not in run("doctor", cwd=folder, **project).stdout
        told = run("why", "Product.cached.sort()", code=2, cwd=folder, **project).stderr
        assert "AttributeError" in told

    def test_one_that_cannot_be_loaded(self, folder: Path) -> None:
        told = run("stat", code=2, cwd=folder, DJANGO_SETTINGS_MODULE="sight_settings").stderr
        assert "No module named 'sight_settings'" in told
        assert "unset DJANGO_SETTINGS_MODULE" in told
        (folder / "shelf/models.py").write_text("1 / 0")
        told = run("clear", code=2, cwd=folder, DJANGO_SETTINGS_MODULE="site_settings").stderr
        assert "ZeroDivisionError" in told

    def test_help_needs_no_project(self, folder: Path) -> None:
        run("stat", "--help", cwd=folder, DJANGO_SETTINGS_MODULE="sight_settings")


class Terminal:
    """A command in a pseudo-terminal, and what its screen shows."""

    # Ctrl-C is for the processes whose controlling terminal it is typed at.
    _ITS_OWN = """if True:
        import fcntl, os, sys, termios
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        os.execv(sys.argv[1], sys.argv[1:])
    """

    def __init__(self, *arguments: str) -> None:
        self.screen = pyte.Screen(COLUMNS, LINES)
        self._stream = pyte.ByteStream(self.screen)
        self.written = b""
        self._fd, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
        self._process = subprocess.Popen(
            [sys.executable, "-c", self._ITS_OWN, str(COMMAND), *arguments],
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env=environment | {"TERM": "xterm-256color"},
        )  # fmt: skip
        os.close(theirs)

    def read(self, seconds: float) -> bool:
        """Takes in what is written within so many seconds; False at the end."""
        ready, _, _ = select.select([self._fd], [], [], seconds)
        if ready:
            try:
                data = os.read(self._fd, 65536)
            except OSError:  # the other end is closed
                return False
            self.written += data
            self._stream.feed(data)
        return True

    def text(self) -> str:
        return "\n".join(self.screen.display)

    def wait_for(self, pattern: str) -> str:
        """Reads until the screen shows it; returns the match's first group."""
        end = time.monotonic() + SOON
        while (match := re.search(pattern, self.text())) is None:
            assert self.read(0.1), self.text()
            assert time.monotonic() < end, self.text()
        return match[1] if match.groups() else match[0]

    def type(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def end(self) -> int:
        """Reads to the end, and returns the exit code."""
        end = time.monotonic() + SOON
        while self.read(0.1):
            assert time.monotonic() < end, self.text()
        os.close(self._fd)
        return self._process.wait(SOON)

    def kill(self) -> None:
        """Ends it where the test has not."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
            os.close(self._fd)


Opener = Callable[..., Terminal]


@pytest.fixture
def open_terminal() -> Iterator[Opener]:
    """Opens terminals, of which none outlives the test."""
    terminals: list[Terminal] = []

    def opened(*arguments: str) -> Terminal:
        terminals.append(Terminal(*arguments))
        return terminals[-1]

    yield opened
    for terminal in terminals:
        terminal.kill()


@contextmanager
def reader(cache: Cache) -> Iterator[int]:
    """A process that gets keys, one of them mostly, and invalidates now and then."""
    pid = os.fork()
    if pid == 0:
        try:
            for number in range(1 << 30):
                for _ in range(200):
                    cache.get("user:1")
                cache.get("absent")
                if number % 50 == 0:
                    cache.invalidate(f"price-list:{number % 3}")
        finally:
            os._exit(0)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


class TestTop:
    def test_numbers_that_change(self, cache: Cache, open_terminal: Opener) -> None:
        """Hits per second, the hottest key and tags, the worker: on a screen that is redrawn."""
        with reader(cache) as pid:
            terminal = open_terminal("top", "--interval", "0.3")
            first = terminal.wait_for(r"per second +([1-9][\d,]+) gets")
            terminal.wait_for(r"hit ratio +99\.\d %")
            terminal.wait_for(r"9\d\.\d % +[\d,]+/s user:1")
            terminal.wait_for(r"\d+ price-list:2")
            terminal.wait_for(rf"invalidate by {pid} +price-list")
            terminal.wait_for(rf"{pid} +\d+ s +[\d.]+ [KM]iB")
            terminal.wait_for(r"(?m)main +[█▓▒░ ]*\|·+")  # the head of a log that is not full
            rates = {first}
            end = time.monotonic() + SOON
            while len(rates) < 3:
                rates.add(terminal.wait_for(r"per second +([1-9][\d,]+) gets"))
                terminal.read(0.1)
                assert time.monotonic() < end, rates
            terminal.type(b"q")
            assert terminal.end() == 0
        # The terminal is as it was: its main screen, and a cursor.
        assert terminal.written.rindex(b"\x1b[?1049l") > terminal.written.rindex(b"\x1b[?1049h")
        assert terminal.written.rindex(b"\x1b[?25h") > terminal.written.rindex(b"\x1b[?25l")

    def test_ctrl_c(self, cache: Cache, open_terminal: Opener) -> None:
        terminal = open_terminal("top")
        terminal.wait_for("hottest keys")
        terminal.type(b"\x03")
        assert terminal.end() == 130
        assert b"Traceback" not in terminal.written
        assert b"\x1b[?1049l" in terminal.written

    def test_so_many_seconds(self, cache: Cache, open_terminal: Opener) -> None:
        terminal = open_terminal("top", "--interval", "0.2", "--seconds", "0.5")
        assert terminal.end() == 0

    def test_no_segment(self, open_terminal: Opener) -> None:
        terminal = open_terminal("top", "--name", "nobody-s")
        assert terminal.end() == 1
        assert b"there is no segment" in terminal.written.replace(b"\r\n", b" ")

    def test_the_segment_is_replaced(
        self, cache: Cache, short_name: str, open_terminal: Opener
    ) -> None:
        terminal = open_terminal("top", "--interval", "0.2")
        terminal.wait_for(r"1\.0 MiB")
        run("resize", "--yes", "2MiB")
        terminal.wait_for(r"2\.0 MiB")
        run("destroy", "--yes")
        terminal.wait_for("is gone")
        Segment(short_name, 1 << 20)
        terminal.wait_for(r"1\.0 MiB")
        terminal.type(b"q")
        assert terminal.end() == 0


def test_a_question_at_a_terminal(cache: Cache, short_name: str, open_terminal: Opener) -> None:
    terminal = open_terminal("destroy")
    terminal.wait_for(r"Remove .*\?")
    terminal.type(b"n\n")
    assert terminal.end() == 1
    assert Path(path_of(short_name)).exists()
    terminal = open_terminal("destroy")
    terminal.wait_for(r"Remove .*\?")
    terminal.type(b"y\n")
    assert terminal.end() == 0
    assert not Path(path_of(short_name)).exists()
