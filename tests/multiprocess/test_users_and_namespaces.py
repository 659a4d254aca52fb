"""What docs/security.md says of other users, and of containers that share /dev/shm, is so."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_sharing import Peer

from zoocache import exceptions
from zoocache.shm import MIN_SIZE, Cache, Segment

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


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare, of util-linux")
def test_pid_namespaces_share_a_segment(cache: Cache, name: str):
    """Both peers are process 1, and a lock tells which of them lives."""
    contained = ["unshare", "--pid", "--fork"]
    if subprocess.run([*contained, "true"], capture_output=True).returncode:
        pytest.skip("no pid namespaces here")
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
