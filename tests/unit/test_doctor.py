"""The doctor: each thing that can be wrong is found, and only that."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import zoocache
from zoocache import config, doctor, host
from zoocache.findings import Finding, Level
from zoocache.shm import Cache, Segment, path_of, resize, unlink
from zoocache.shm.intent import End, reap

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

_files = host.files  # as it is; the fixture shows the test's own files only
BAD = (Level.WARNING, Level.PROBLEM)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, default_cache: Cache) -> None:
    """Other tests' segments, which come and go, and this run's variables are not looked at."""
    own = path_of(default_cache.segment.name)
    files, mappings = host.files, host.mappings
    monkeypatch.setattr(
        host, "files", lambda: [one for one in files() if str(one.path).startswith(own)]
    )
    name = Path(own).name
    monkeypatch.setattr(
        host, "mappings", lambda: [one for one in mappings() if one.file.startswith(name)]
    )
    monkeypatch.delenv("ZOOCACHE_TEST_RUN", raising=False)
    monkeypatch.delenv("ZOOCACHE_TEST_SERVICES", raising=False)


def found(*levels: Level) -> list[Finding]:
    return [finding for finding in doctor.examine() if not levels or finding.level in levels]


def only(*levels: Level) -> Finding:
    (finding,) = found(*levels)
    return finding


@contextmanager
def another_process(work: Callable[[], object]) -> Iterator[int]:
    """A process that has done the work, and waits until it is killed."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os.write(writer, b"!")
            while True:
                signal.pause()
        finally:
            os._exit(0)
    try:
        os.read(reader, 1)
        yield pid
    finally:
        os.close(reader)
        os.close(writer)
        kill(pid)


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass  # it was killed already


def test_a_sound_segment_has_no_finding(default_cache: Cache) -> None:
    default_cache.set("key", b"v")
    assert found(*BAD) == []
    assert any("1 entries verify" in finding.what for finding in found(Level.OK))


def test_no_segment(default_cache: Cache) -> None:
    unlink(default_cache.segment.name)
    assert "there is no segment" in only(Level.NOTE).what
    assert found(*BAD) == []


def test_a_setting_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOOCACHE_TTL", "soon")
    finding = only(Level.PROBLEM)
    assert "ZOOCACHE_TTL" in finding.what


def test_settings_that_are_unusual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOOCACHE_SIZES", "1GiB")
    zoocache.configure(enabled=False)
    assert "switched off" in only(*BAD).what
    (typo,) = (one for one in found(Level.NOTE) if "ZOOCACHE_SIZES" in one.what)
    assert typo.todo == "did you mean ZOOCACHE_SIZE?"


def test_another_size_than_the_settings_say(default_cache: Cache) -> None:
    zoocache.configure(size="4MiB")
    finding = only(*BAD)
    assert "1,048,576 bytes, the settings of this process say 4,194,304" in finding.what
    assert "zoocache resize 4194304" in finding.todo
    assert [one for one in doctor.examine(own=False) if one.level in BAD] == []
    resize(default_cache.segment.name, 4 << 20)
    assert found(*BAD) == []


def test_another_entry_size_than_the_settings_say(default_cache: Cache) -> None:
    zoocache.configure(entry_size=300)
    finding = only(*BAD)
    assert "is for entries of any size" in finding.what
    assert "say entries of 300 bytes" in finding.what
    assert [one for one in doctor.examine(own=False) if one.level in BAD] == []
    resize(default_cache.segment.name, default_cache.segment.size, entry_size=300)
    assert found(*BAD) == []


def test_no_room(default_cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "room", lambda: host.Room(64 << 20, 1 << 10))
    assert found(*BAD) == []  # it is there already
    unlink(default_cache.segment.name)
    finding = only(*BAD)
    assert "does not fit /dev/shm" in finding.what
    assert "--shm-size" in finding.todo


def test_less_memory_than_the_segment_takes(
    default_cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "memory_limit", lambda: 1 << 20)
    unlink(default_cache.segment.name)
    assert "control group" in only(*BAD).what


def test_open_to_others(default_cache: Cache) -> None:
    os.chmod(path_of(default_cache.segment.name), 0o666)
    assert "open to other users" in only(Level.PROBLEM).what


def test_another_users_segment(default_cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    (mine,) = (one for one in host.files() if not one.suffix)
    monkeypatch.setattr(host, "files", lambda: [mine, mine._replace(uid=mine.uid + 1)])
    finding = only(*BAD)
    assert f"user {mine.uid + 1}'s segment of the same name" in finding.what


def test_commits_of_the_dead_and_of_unknown_outcome(default_cache: Cache) -> None:
    intent = default_cache.intent()
    with another_process(lambda: intent.announce(["t"], "db 42", 3)) as pid:
        assert not any("died" in one.what for one in found(Level.NOTE))
        kill(pid)
        notes = [one.what for one in found(Level.NOTE)]
    assert any("1 announced commits of processes that died" in note for note in notes)
    assert any("unknown (session db 42)" in note and "at most 3 s" in note for note in notes)
    default_cache.segment.shift_time(4)
    assert reap(default_cache) == 1
    assert not any("unknown" in one.what for one in found(Level.NOTE))


def test_everybody_misses(default_cache: Cache) -> None:
    """Commits that cannot be waited for, when the segment is replaced."""
    intent = default_cache.intent()
    intent.announce(["t"], "", 3)
    resize(default_cache.segment.name, 1 << 20, wait=0)
    assert "nobody hits for" in only(*BAD).what
    intent.settle(End.ROLLED_BACK)


def test_a_stopped_process(default_cache: Cache) -> None:
    with another_process(lambda: default_cache.get("key")) as pid:
        assert any(f"1 processes: {pid}" in one.what for one in found(Level.OK))
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED)
        finding = only(*BAD)
        assert "stopped" in finding.what
        assert str(pid) in finding.what


def test_an_object_without_a_name(default_cache: Cache) -> None:
    name = default_cache.segment.name
    other = Segment(f"{name}-gone", 1 << 20)
    with another_process(lambda: other.size) as pid:
        unlink(other.name)
        note = next(one for one in found(Level.NOTE) if "names are gone" in one.what)
        assert str(pid) in note.what


def test_what_is_left_over(default_cache: Cache) -> None:
    name = default_cache.segment.name
    pid = os.fork()
    if pid == 0:
        try:
            Segment(f"{name}-unused", 1 << 20)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    next_one = Path(f"{path_of(name)}.next")
    next_one.write_bytes(b"x")
    assert not any("resize that was killed" in one.what for one in found())  # just begun
    os.utime(next_one, (time.time() - 100,) * 2)
    notes = {one.what: one.todo for one in found(Level.NOTE)}
    assert any("resize that was killed" in note for note in notes)
    (unused,) = (note for note in notes if "no process uses" in note)
    assert notes[unused].endswith(f"zoocache destroy --name {name}-unused")
    os.unlink(path_of(name))  # by hand
    assert any("removed by hand" in one.what for one in found(Level.NOTE))


def test_a_damaged_segment(default_cache: Cache) -> None:
    """A tag's clock ahead of the segment's: what zoo_check() calls a violation."""
    with open(path_of(default_cache.segment.name), "r+b") as file:
        file.seek(4096 + 64 * 32 * 8)  # the tags come behind the header and the counters
        file.write(b"\xff" * 8)
    finding = only(Level.PROBLEM)
    assert "damaged: clocks ahead" in finding.what


def test_a_segment_of_an_older_version(default_cache: Cache) -> None:
    with open(path_of(default_cache.segment.name), "r+b") as file:
        file.seek(8)
        file.write((2).to_bytes(4, "little"))
    assert found(Level.PROBLEM) == []
    assert any("made by an older version" in one.what for one in found(Level.NOTE))


@pytest.mark.parametrize(
    ("counted", "told"),
    [
        ({"differed": 1, "compared": 10}, "shadow mode found 1 of 10"),
        ({"corrupt": 2}, "failed their checksum"),
        ({"too_large": 2}, "the largest record is"),
        ({"lapped": 400, "evictions": 100}, "small for what is asked for"),
        ({"no_lane": 1}, "no free lane"),
        ({"pending": 900}, "commits under way"),
    ],
)
def test_what_counters_tell(
    counted: dict[str, int], told: str, default_cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    stats = default_cache.stats() | {"hits": 500, "misses": 1000}
    monkeypatch.setattr(Cache, "stats", lambda self: stats)
    quiet = found(*BAD, Level.NOTE)
    monkeypatch.setattr(Cache, "stats", lambda self: stats | counted)
    (finding,) = (one for one in found(*BAD, Level.NOTE) if one not in quiet)
    assert told in finding.what
    assert finding.todo


@pytest.mark.parametrize(
    ("group", "files", "limit"),
    [
        ("0::/", {"memory.max": "max"}, None),
        ("0::/", {"memory.max": "1048576"}, 1 << 20),
        ("0::/a/b", {"a/b/memory.max": "2097152", "a/memory.max": "1048576"}, 1 << 20),
        ("0::/a", {"a/memory.max": "1048576", "memory.max": "max"}, 1 << 20),
        ("0::/elsewhere", {"memory.max": "1048576"}, 1 << 20),
        ("5:memory:/a", {"memory/memory.limit_in_bytes": "1048576"}, 1 << 20),
        ("5:memory:/a", {"memory/memory.limit_in_bytes": str(2**63 - 4096)}, None),
        ("0::/", {}, None),
    ],
)
def test_the_memory_limit_is_read(
    group: str, files: dict[str, str], limit: int | None, tmp_path: Path
) -> None:
    mine, groups = tmp_path / "cgroup", tmp_path / "groups"
    mine.write_text(group + "\n")
    for name, text in files.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(text + "\n")
    assert host.memory_limit(mine, groups) == limit
    assert host.memory_limit(tmp_path / "no such file", groups) is None


def test_files_that_are_not_ours(default_cache: Cache) -> None:
    """Anybody may make a file there, with any name."""
    path = path_of(default_cache.segment.name)
    strange = [Path(path + "\x1b[2J"), Path(path.replace(f"-{os.geteuid()}-", "-54321-"))]
    try:
        for file in strange:
            file.write_bytes(b"x")
        names = {one.path for one in _files()}
        assert Path(path) in names
        assert not names & set(strange)
    finally:
        for file in strange:
            file.unlink(missing_ok=True)


def test_settings_are_those_of_the_name(default_cache: Cache) -> None:
    with config.overriding(name=f"{default_cache.segment.name}-x"):
        assert any("-x yet" in one.what for one in found(Level.NOTE))
    assert config.resolve().name == default_cache.segment.name
