"""A segment that a group shares (GROUP): its members are one, and nobody else gets in."""

from __future__ import annotations

import logging
import os
import pwd
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_sharing import Peer

import zoocache
from zoocache import config, doctor, exceptions, findings, host, store
from zoocache.contrib import gunicorn
from zoocache.shm import MIN_SIZE, Cache, Segment, path_of, resize, unlink

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users of one group")

GROUP, ADA, BOB, EVE = 60100, 60101, 60102, 60103
VERSION_AT = 8  # in the header

MEMBER = {"ada": f"{ADA}:{GROUP}", "bob": f"{BOB}:{GROUP}"}

CHANGED = """
import logging, os, sys
from pathlib import Path
import zoocache
from zoocache import config, doctor, exceptions, store
from zoocache.shm import MIN_SIZE, Cache, Segment, path_of, resize, unlink

name, uid, *groups = sys.argv[1:]
os.setgroups([int(group) for group in groups])
os.setgid(int(uid))
os.setuid(int(uid))
group, _, own = name.partition("/")
logging.basicConfig(format="LOGGED %(message)s", stream=sys.stdout)
"""


def as_user(name: str, uid: int, code: str, *groups: int) -> str:
    """What the code prints in a process of the user."""
    environment = {key: text for key, text in os.environ.items() if "ZOOCACHE" not in key}
    command = [sys.executable, "-c", CHANGED + code, name, str(uid), *map(str, groups)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def group() -> int:
    """One that this process is in: root is in all."""
    return GROUP if os.geteuid() == 0 else os.getegid()


@pytest.fixture
def name(short_name: str, group: int) -> Iterator[str]:
    yield f"{group}/{short_name}"
    for path in Path("/dev/shm").glob(f"zoocache-*-{short_name}*"):
        path.unlink()


@pytest.fixture
def configured(name: str, group: int) -> Iterator[None]:
    zoocache.configure(name=name.rpartition("/")[2], size="1MiB", group=group)
    yield
    config.clear_overrides()


def older(path: Path) -> None:
    """Makes the segment one of the layout before."""
    with path.open("r+b") as file:
        file.seek(VERSION_AT)
        (version,) = struct.unpack("<I", file.read(4))
        file.seek(VERSION_AT)
        file.write(struct.pack("<I", version - 1))


@pytest.mark.parametrize("umask", [0, 0o777])
def test_its_files_are_the_groups_whatever_the_umask(name: str, group: int, umask: int) -> None:
    before = os.umask(umask)
    try:
        Cache(Segment(name, MIN_SIZE)).set("key", b"value")
        resize(name, 2 * MIN_SIZE)
        assert Cache(Segment(name)).segment.size == 2 * MIN_SIZE
    finally:
        os.umask(before)
    files = [Path(path_of(name) + suffix) for suffix in ("", ".lock")]
    assert [file.stat().st_mode & 0o7777 for file in files] == [0o660, 0o660]
    assert {file.stat().st_gid for file in files} == {group}
    found = [one for one in host.files() if one.path in files]
    assert {(one.segment, one.group, one.uid) for one in found} == {(name, group, os.geteuid())}
    assert unlink(name)
    assert not any(file.exists() for file in files)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o662, 0o664, 0o666, 0o1660, 0o2660])
@pytest.mark.parametrize("suffix", ["", ".lock"])
def test_another_mode_is_refused(name: str, mode: int, suffix: str) -> None:
    Segment(name, MIN_SIZE)
    os.chmod(path_of(name) + suffix, mode)
    with pytest.raises(exceptions.SegmentPermissionError, match="has not the mode 0660"):
        Segment(name, MIN_SIZE)


@pytest.mark.parametrize("bad", ["/x", "x/y", "1/", "1/2/3", "-1/x", "4294967295/x", "+1/x"])
def test_a_group_is_a_number(bad: str) -> None:
    with pytest.raises(exceptions.ConfigError, match="cannot name a segment"):
        Segment(bad, MIN_SIZE)


def test_settings_lead_to_it(configured: None, name: str) -> None:
    calls: list[int] = []

    @zoocache.cacheable()
    def one() -> int:
        zoocache.add_deps(["one"])
        calls.append(1)
        return len(calls)

    assert one() == one() == 1
    assert Path(path_of(name)).exists()
    segment = store.writer().segment
    assert (segment.name, segment.label) == (name, name.rpartition("/")[2])
    zoocache.invalidate("one")
    assert one() == 2
    told = [found.what for found in doctor.examine() if found.level is findings.Level.OK]
    assert any("closed to other users than members of the group" in what for what in told)


@pytest.mark.parametrize("given", ["number", "text", "name"])
def test_a_group_by_name_or_number(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    values = {"number": 0, "text": "0", "name": "root"}
    zoocache.configure(group=values[given])
    try:
        assert config.resolve().group == 0
        zoocache.configure(group=None)
        assert config.resolve().group is None
    finally:
        config.clear_overrides()
    monkeypatch.setenv("ZOOCACHE_GROUP", str(values[given]))
    assert config.segment_name("x") == "0/x"


@pytest.mark.parametrize("bad", ["nobody-is-in-it", "", "-1", -1, True, 1.5, 0xFFFFFFFF, "a\0b"])
def test_no_group(bad: object) -> None:
    with pytest.raises(exceptions.ConfigError, match=r"configure\(group=...\): .*group"):
        zoocache.configure(group=bad)  # type: ignore[arg-type]


@as_root
@pytest.mark.parametrize("umask", [0, 0o077])
def test_two_users_of_a_group_share_what_they_store_and_drop(name: str, umask: int) -> None:
    before = os.umask(umask)
    try:
        with Peer(name, "late", MEMBER["ada"]) as ada, Peer(name, "late", MEMBER["bob"]) as bob:
            for one, another in ((ada, bob), (bob, ada)):
                assert one.set("row", "old", ["row"]) == "STORED"
                assert another.get("row") == "old"
                stamp = one.stamp()
                another.invalidate("row")
                assert one.get("row") is None
                assert one.fill("row", "old", stamp, ["row"]) == "BORN_DEAD"
    finally:
        os.umask(before)


@as_root
def test_what_a_killed_member_announced_another_settles(name: str) -> None:
    with Peer(name, "late", MEMBER["bob"]) as bob:
        bob.set("row", "old", ["row"])
        ada = Peer(name, "late", MEMBER["ada"])
        try:
            assert ada.announce(["row"])
            assert bob.get("row") is None  # its commit is under way
            assert bob.reap() == 0
        finally:
            ada.process.kill()
            ada.process.wait()
            ada.process.stdin.close()
            ada.process.stdout.close()
        assert bob.reap() == 1
        assert bob.set("row", "new", ["row"]) == "STORED"
        assert bob.get("row") == "new"


@as_root
@pytest.mark.parametrize("made", [False, True])
def test_who_is_not_in_the_group_misses_with_one_line_in_the_log(name: str, made: bool) -> None:
    if made:
        Cache(Segment(name, MIN_SIZE)).set("row", b"value")
    told = as_user(
        name, EVE,
        """
calls = []
zoocache.configure(name=own, group=group, size="1MiB")
one = zoocache.cacheable()(lambda: calls.append(1))
one(), one()
print(len(calls))
try:
    zoocache.invalidate("row")
    print("invalidated")
except exceptions.SegmentPermissionError as error:
    print("refused", error)
for finding in doctor.examine():
    print(finding.level.name, finding.what, finding.todo)
""",
    )  # fmt: skip
    assert told.count("LOGGED") == 1
    assert f"usermod -aG {GROUP} {EVE}" in told.partition("\n")[0]
    assert "\n2\n" in told
    # Where there is no segment, nothing is stale. Where there is one, nothing is lost silently.
    assert (f"refused {path_of(name)} is shared by the group" in told) == made
    assert ("invalidated" in told) != made
    assert "PROBLEM" in told
    assert Path(path_of(name)).exists() == made


@as_root
def test_a_name_that_somebody_outside_took_is_refused(name: str) -> None:
    as_user(name, EVE, "Path(path_of(name)).touch(0o660)")
    told = as_user(
        name, ADA,
        """
try:
    Segment(name, MIN_SIZE)
except exceptions.SegmentPermissionError as error:
    print(error)
""", GROUP,
    )  # fmt: skip
    assert f"user {EVE} made it. Remove it, as {EVE} or root." in told
    assert [one for one in host.files() if one.path == Path(path_of(name))] == []


STICKY = """
for ask in (lambda: resize(name, 2 * MIN_SIZE), lambda: unlink(name)):
    try:
        print("done", ask())
    except exceptions.SegmentPermissionError as error:
        print("refused", error)
"""


@as_root
def test_only_the_owner_of_the_file_and_root_replace_and_remove_it(name: str) -> None:
    path = Path(path_of(name))
    with Peer(name, "late", MEMBER["ada"]) as ada:
        ada.set("row", "value", ["row"])
        told = as_user(name, BOB, STICKY, GROUP)
        assert told.count(f"{path} belongs to user {ADA}") == told.count("refused") == 2
        assert told.count(f"destroy as {ADA} or as root") == 2
        assert ada.get("row") == "value"  # nothing was done
        resize(name, 2 * MIN_SIZE)
        assert path.stat().st_uid == ADA  # who could go on without root
        assert path.stat().st_mode & 0o7777 == 0o660
    assert as_user(name, ADA, STICKY, GROUP) == "done None\ndone True\n"
    assert not path.exists()


@as_root
def test_what_another_members_killed_resize_has_left(name: str) -> None:
    Segment(name, MIN_SIZE)
    os.chown(path_of(name), ADA, -1)
    Path(path_of(name) + ".next").touch()  # root's
    told = as_user(name, ADA, "resize = lambda *_: Segment(name)\n" + STICKY, GROUP)
    assert told.startswith("done <Segment")
    assert not Path(path_of(name)).exists()
    Segment(name, MIN_SIZE)
    os.chown(path_of(name), ADA, -1)
    Path(path_of(name) + ".next").touch()
    told = as_user(name, ADA, STICKY.replace(", lambda: unlink(name)", ","), GROUP)
    assert f"{path_of(name)}.next belongs to user root" in told
    resize(name, MIN_SIZE)
    assert not Path(path_of(name) + ".next").exists()


READS_AND_DROPS = """
calls = []
zoocache.configure(name=own, group=group, size="1MiB")
one = zoocache.cacheable()(lambda: calls.append(1))
one(), one()
print(len(calls))
zoocache.invalidate("row")
"""


@as_root
def test_an_older_versions_segment_of_another_member_is_cleared_and_not_used(name: str) -> None:
    """Its user's processes may be of the older version, and hit in it."""
    with Peer(name, "late", MEMBER["ada"]) as ada:
        ada.set("row", "old", ["row"])
        older(Path(path_of(name)))
        told = as_user(name, BOB, READS_AND_DROPS, GROUP)
        assert told.count("LOGGED") == 1
        assert f"{path_of(name)} belongs to user {ADA}" in told
        assert "\n2\n" in told
        assert ada.get("row") is None
        ada.set("row", "new", ["row"])
        assert ada.get("row") == "new"  # it was not retired
        told = as_user(name, ADA, READS_AND_DROPS, GROUP)
        assert told == "1\n"  # replaced
        assert as_user(name, BOB, READS_AND_DROPS, GROUP) == "0\n"  # served what Ada's stored


@as_root
def test_a_retired_segment_of_another_member_serves_nobody_until_it_is_replaced(name: str) -> None:
    with Peer(name, "late", MEMBER["ada"]) as ada:
        ada.set("row", "old", ["row"])
        Path(path_of(name) + ".lock").unlink()  # then nobody can be told dead
        told = as_user(name, BOB, READS_AND_DROPS, GROUP)
        assert told.count("LOGGED") == 1
        assert f"{path_of(name)} belongs to user {ADA}" in told
        assert ada.get("row") is None
    assert as_user(name, ADA, READS_AND_DROPS, GROUP) == "1\n"
    assert as_user(name, BOB, READS_AND_DROPS, GROUP) == "0\n"


@as_root
def test_a_half_made_segment_of_another_member_is_made(name: str) -> None:
    """A creator that died left an object without contents: no name need be changed."""
    path = Path(path_of(name))
    path.touch()
    os.chown(path, ADA, GROUP)
    path.chmod(0o660)
    assert as_user(name, BOB, READS_AND_DROPS, GROUP) == "1\n"
    assert path.stat().st_uid == ADA


@as_root
def test_a_segment_beside_it_is_pointed_out(name: str, configured: None, short_name: str) -> None:
    strangers = pwd.getpwnam("nobody").pw_uid
    for uid in (ADA, strangers):
        as_user(short_name, uid, "Segment(name, MIN_SIZE)")
    Segment(name, MIN_SIZE)
    own = [one for one in doctor.examine() if one.level is findings.Level.WARNING]
    assert any(f"user {ADA}'s own segment of the same name, made without GROUP" in one.what
               for one in own)  # fmt: skip
    assert not any(f"user {strangers}'s" in one.what for one in own)  # another project's
    zoocache.configure(group=None)
    beside = [one.what for one in doctor.examine() if one.level is findings.Level.WARNING]
    assert any(f"group {GROUP}'s segment of the same name" in what for what in beside)


@as_root
def test_gunicorns_hook_looks_into_segments_of_the_workers_group(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    as_user(
        name, ADA,
        """
intent = Cache(Segment(name, MIN_SIZE)).intent()
intent.announce(["row"], "", 0)
os._exit(0)
""", GROUP,
    )  # fmt: skip
    cache = Cache(Segment(name))
    gunicorn.child_exit(SimpleNamespace(cfg=SimpleNamespace(uid=ADA, gid=ADA)), None)
    assert cache.stats()["reaped"] == 0  # of a group that the workers are not in
    gunicorn.child_exit(SimpleNamespace(cfg=SimpleNamespace(uid=ADA, gid=GROUP)), None)
    assert cache.stats()["reaped"] == 1
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]
