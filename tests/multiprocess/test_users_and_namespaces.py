"""What docs/security.md says of other users, and of containers that share /dev/shm, is so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from test_sharing import Peer

from zoocache import exceptions
from zoocache.shm import MIN_SIZE, Cache, Segment
from zoocache.shm.intent import reap

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")

OTHER = 65534


def file_of(uid: int, name: str) -> Path:
    return Path(f"/dev/shm/zoocache-{uid}-{name}")


@pytest.fixture
def name(segment_name: str) -> Iterator[str]:
    yield segment_name
    file_of(OTHER, segment_name).unlink(missing_ok=True)
    file_of(OTHER, segment_name + ".lock").unlink(missing_ok=True)


@pytest.fixture
def cache(name: str) -> Cache:
    return Cache(Segment(name, MIN_SIZE))


def test_two_users_have_a_segment_each_and_do_not_hear_of_each_other(cache: Cache, name: str):
    cache.set("row", b"old", tags=["row"])
    with Peer(name, "late", str(OTHER)) as other:
        assert other.get("row") is None
        other.invalidate("row")
    assert cache.get("row") == b"old"
    assert file_of(OTHER, name).stat().st_mode & 0o777 == 0o600


def test_a_worker_that_changes_its_user_goes_on_with_what_it_inherited(cache: Cache, name: str):
    cache.set("opened before the fork", b"yes")
    with Peer(name, "fork", str(OTHER)) as worker:
        assert worker.set("key", "value", ["row"]) == "STORED"
        assert cache.get("key") == b"value"
        with Peer(name, "late", str(OTHER)) as command:  # of the same user, started later
            command.invalidate("row")
        assert worker.get("key") == "value"  # it has another segment
        cache.invalidate("row")
        assert worker.get("key") is None


def test_a_name_that_somebody_else_took_is_refused(name: str):
    squatted = file_of(os.geteuid(), name)
    squatted.touch(0o600)
    os.chown(squatted, OTHER, OTHER)
    with pytest.raises(exceptions.SegmentPermissionError, match="another user"):
        Segment(name, MIN_SIZE)


@pytest.fixture
def contained() -> list[str]:
    """Runs a command as process 1 of a pid namespace."""
    command = ["unshare", "--pid", "--fork"]
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare, of util-linux")
    if subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("no pid namespaces here")
    return command


def test_pid_namespaces_share_a_segment(cache: Cache, name: str, contained: list[str]):
    """Both peers are process 1, and a lock tells which of them lives."""
    with (
        Peer(name, by=contained) as one,
        Peer(name, by=contained) as another,
    ):
        assert one.pid() == another.pid() == 1
        one.set("key", "value", ["row"])
        assert another.get("key") == "value"
        another.invalidate("row")
        assert one.get("key") is None
        assert cache.get("key") is None


def test_a_living_process_of_another_pid_namespace_is_not_taken_for_dead(
    cache: Cache, name: str, contained: list[str]
):
    """Nor a dead one for alive, though a process of the same pid lives, the one that asks."""
    cache.set("key", b"old", tags=["row"])
    with Peer(name, by=contained) as another:
        committer = Peer(name, by=contained)
        try:
            assert committer.pid() == another.pid() == 1
            assert committer.announce(["row"])
            assert another.reap() == reap(cache) == 0
            assert another.get("key") is cache.get("key") is None  # its commit is under way
            assert cache.segment.check().lanes_taken == 1
            (process,) = psutil.Process(committer.process.pid).children()
            process.kill()
        finally:
            committer.process.stdin.close()
            committer.process.stdout.close()
            committer.process.wait(20)
        assert another.reap() == 1
        assert cache.segment.check().lanes_taken == 0
        assert another.set("key", "new", ["row"]) == "STORED"
        assert cache.get("key") == b"new"


def test_the_doctor_says_that_it_is_in_a_container(short_name: str, contained: list[str]):
    doctor = [sys.executable, "-m", "zoocache", "doctor"]
    environment = os.environ | {"ZOOCACHE_NAME": short_name}
    told = [
        subprocess.run([*by, *doctor], env=environment, capture_output=True, text=True).stdout
        for by in (contained, [])
    ]
    assert "with a pid namespace of its own" in told[0]
    outside = os.readlink("/proc/self/ns/pid") == "pid:[4026531836]"
    assert ("in a container" in told[1]) != outside


CONDITIONS = {
    "of Docker's size": ("mount -t tmpfs -o size=64m tmpfs /dev/shm", "hit"),
    "too small": ("mount -t tmpfs -o size=8m tmpfs /dev/shm", "does not fit /dev/shm"),
    "read-only": ("mount -t tmpfs -o ro,size=90m tmpfs /dev/shm", "Read-only file system"),
    "not there": ("mount -t tmpfs tmpfs /dev && touch /dev/null", "cannot be looked at"),
}
IN_CONTAINER = """
import logging, subprocess, sys
import zoocache

logging.basicConfig(format="LOGGED %(message)s")

@zoocache.cacheable()
def one():
    calls.append(1)
    return 1

calls = []
assert one() == one() == 1
print("hit" if len(calls) == 1 else "computed twice", flush=True)
zoocache.invalidate("anything")
subprocess.run([sys.executable, "-m", "zoocache", "doctor"])
"""


@pytest.mark.parametrize("what", CONDITIONS)
def test_a_containers_shared_memory(what: str):
    """The default size; what does not fit is one line in the log, and what the doctor says."""
    prepare, told = CONDITIONS[what]
    mount = ["unshare", "--mount", "sh", "-c", f'{prepare} && exec "$@"', "sh"]
    if subprocess.run([*mount, "true"], capture_output=True).returncode:
        pytest.skip("no mount namespaces here")
    environment = {key: value for key, value in os.environ.items() if "ZOOCACHE" not in key}
    done = subprocess.run(
        [*mount, sys.executable, "-c", IN_CONTAINER],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert told in done.stdout, done.stdout
    assert "Traceback" not in done.stdout
    assert done.stdout.count("LOGGED") == (0 if told == "hit" else 1), done.stdout
