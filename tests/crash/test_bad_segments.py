"""Segments that cannot be used: each has its class of error, and a message that names the fix."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from zoocache import exceptions
from zoocache.shm import MIN_SIZE, Cache, Segment, clear_foreign, path_of, unlink

# Offsets in the header: magic, layout version, header size, where six words are; size; secret.
VERSION_AT, WORDS_AT, SECRET_AT, HEADER = 8, 16, 48, 4096

as_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can give a file to another user or mount a file system"
)


@pytest.fixture
def path(segment: Segment) -> Path:
    """The file of a good segment, which the test may spoil."""
    Cache(segment).set("key", b"value")
    return Path(path_of(segment.name))


def refused(name: str, error: type[Exception], *fixes: str, size: int = MIN_SIZE) -> None:
    """Opening it fails, whether it may be created or not, and says what to do."""
    for size_asked in (size, 0):
        with pytest.raises(error) as caught:
            Segment(name, size_asked)
        assert type(caught.value) is error
        for fix in fixes:
            assert re.search(fix, str(caught.value)), str(caught.value)


def patch(path: Path, at: int, new: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(new)


@as_root
def test_of_another_user(segment, path):
    os.chown(path, 65534, -1)
    refused(
        segment.name,
        exceptions.SegmentPermissionError,
        re.escape(str(path)),
        "belongs to another user",
        "Run as that user, or choose another name",
    )
    os.chown(path, os.geteuid(), -1)
    assert Cache(Segment(segment.name)).get("key") == b"value"


@pytest.mark.parametrize("mode", [0o666, 0o660, 0o606, 0o644, 0o604])
def test_open_to_others(segment, path, mode):
    path.chmod(mode)
    refused(
        segment.name,
        exceptions.SegmentPermissionError,
        "open to other users",
        "remove",
    )
    path.chmod(0o600)
    assert Cache(Segment(segment.name)).get("key") == b"value"


def test_is_made_private_whatever_the_umask(segment_name):
    before = os.umask(0)
    try:
        Segment(segment_name, MIN_SIZE)
    finally:
        os.umask(before)
    assert stat.S_IMODE(Path(path_of(segment_name)).stat().st_mode) == 0o600


def test_of_another_layout_version(segment, path):
    patch(path, VERSION_AT, struct.pack("<I", 999))
    refused(
        segment.name,
        exceptions.SegmentFormatError,
        "not a segment of this zoocache version",
        f"remove {re.escape(str(path))}",
    )


def test_not_a_segment(segment, path):
    patch(path, 0, b"This is a text file of somebody else's.")
    refused(segment.name, exceptions.SegmentFormatError, "not a segment", "remove")


def test_every_garbled_byte_of_the_header_is_noticed(segment, path):
    """One bit of any byte of the constants: refused, never used, never a crash."""
    whole = path.read_bytes()[:HEADER]
    # Up to and with their checksum.
    constants = 8 + 4 + 4 + 6 * 4 + 8 + 2 * 8 + 3 * 8 + 16 * 16 + 8
    for at in range(constants):
        # Not the bit that makes it a good segment of the version before, which is replaced.
        bit = 7 if at == VERSION_AT else at % 8
        patch(path, at, bytes([whole[at] ^ 1 << bit]))
        with pytest.raises(exceptions.SegmentFormatError) as caught:
            Segment(segment.name, MIN_SIZE)
        assert "remove" in str(caught.value)
        patch(path, at, whole[at : at + 1])
    assert Cache(Segment(segment.name)).get("key") == b"value"


def test_a_garbled_table_of_words_leads_nowhere(segment, path):
    """Another version reads it to retire the segment: it must not write where it says."""
    for at in (0, 4095, 4096, 2**32 - 8, 2**32 - 1):
        whole = path.read_bytes()[:HEADER]
        patch(path, VERSION_AT, struct.pack("<I", 999))
        patch(path, WORDS_AT, struct.pack("<I", at))  # not the place of its state
        garbled = path.read_bytes()[:HEADER]
        assert clear_foreign(segment.name) is (at == 0)
        if at:
            assert path.read_bytes()[:HEADER] == garbled
        patch(path, 0, whole[:SECRET_AT])
    assert Segment(segment.name).check().sound


def test_garbled(segment, path):
    patch(path, SECRET_AT, b"\xff" * 8)
    refused(
        segment.name, exceptions.SegmentFormatError, "garbled", f"remove {re.escape(str(path))}"
    )


@pytest.mark.parametrize("length", [MIN_SIZE - 1, MIN_SIZE // 2, HEADER, HEADER - 1, 1])
def test_truncated(segment_name, length):
    # A file of its own: truncating one that is mapped would kill this process.
    Segment(segment_name, MIN_SIZE)
    path = Path(path_of(segment_name))
    content = path.read_bytes()[:length]
    unlink(segment_name)
    path.touch(0o600)
    path.write_bytes(content)
    refused(segment_name, exceptions.SegmentFormatError, "shorter than", "remove")


@pytest.mark.parametrize("length", [0, MIN_SIZE, 3 * MIN_SIZE + 5])
def test_half_made_is_made_again(segment_name, length):
    """What a creator leaves that was killed: nothing yet, or only zeros."""
    path = Path(path_of(segment_name))
    path.touch(0o600)
    os.truncate(path, length)
    with pytest.raises(exceptions.SegmentError, match="open it with a size to create it"):
        Segment(segment_name)
    cache = Cache(Segment(segment_name, 2 * MIN_SIZE))
    cache.set("key", b"value")
    assert Cache(Segment(segment_name)).get("key") == b"value"
    assert path.stat().st_size == 2 * MIN_SIZE


def test_absent(segment_name):
    with pytest.raises(exceptions.SegmentError, match=r"there is no segment .* with a size"):
        Segment(segment_name)


def test_a_link_in_its_place(segment, path, segment_name):
    """Not followed, though it leads to a good segment of the same user."""
    Path(path_of(segment_name + "-link")).symlink_to(path)
    refused(segment_name + "-link", exceptions.SegmentFormatError, "remove")
    assert Cache(Segment(segment_name)).get("key") == b"value"


def test_a_directory_in_its_place(segment_name):
    path = Path(path_of(segment_name))
    path.mkdir()
    try:
        refused(segment_name, exceptions.SegmentFormatError, "remove")
    finally:
        path.rmdir()


def test_a_fifo_in_its_place(segment_name):
    """Opening it must not block, either."""
    os.mkfifo(path_of(segment_name), 0o600)
    refused(segment_name, exceptions.SegmentPermissionError, "remove")


def test_somebody_holds_the_lock(segment_name):
    path = Path(path_of(segment_name))
    path.touch(0o600)
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(exceptions.SegmentBusyError, match="its lock goes with it"):
            Segment(segment_name, MIN_SIZE, wait=0.05)
    Segment(segment_name, MIN_SIZE, wait=0.05)


@pytest.mark.parametrize("size", [1, 4096, MIN_SIZE - 1])
def test_too_small(segment_name, size):
    with pytest.raises(exceptions.ConfigError, match=f"the least is {MIN_SIZE} bytes"):
        Segment(segment_name, size)
    assert not Path(path_of(segment_name)).exists()


@pytest.mark.parametrize("name", ["a/b", "/", "x" * 300])
def test_not_a_name(name):
    with pytest.raises(exceptions.ConfigError, match="use letters, digits"):
        Segment(name, MIN_SIZE)


FULL = """
import sys
from zoocache.exceptions import SegmentSpaceError
from zoocache.shm import MIN_SIZE, Cache, Segment
try:
    Segment(sys.argv[1], 64 << 20)
except SegmentSpaceError as error:
    print(error)
# A size that fits works at once: what was left behind is no obstacle.
cache = Cache(Segment(sys.argv[1], 1 << 20))
for i in range(5000):
    cache.set(f"key {i}", bytes(1000))
assert cache.get("key 4999") == bytes(1000)
print("fits")
"""


@as_root
@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare to mount a small /dev/shm")
def test_no_room_in_dev_shm(segment_name):
    """A real file system of 2 MiB over /dev/shm, in a mount namespace of its own."""
    script = 'mount -t tmpfs -o size=2m tmpfs /dev/shm && exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, "-c", FULL, segment_name],
        capture_output=True,
        text=True,
        timeout=60,
    )
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"this kernel lets root mount nothing here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    message, end = done.stdout.splitlines()
    assert end == "fits"
    for part in ("no room for 67108864 bytes", "2097152 free", "smaller size", "--shm-size"):
        assert part in message


def test_over_the_limit_for_files(segment_name):
    """Another way to have no room: RLIMIT_FSIZE."""
    code = (
        "import resource, signal, sys\n"
        "from zoocache.exceptions import SegmentSpaceError\n"
        "from zoocache.shm import Segment\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "try:\n"
        "    Segment(sys.argv[1], 4 << 20)\n"
        "except SegmentSpaceError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, segment_name], capture_output=True, text=True, timeout=60
    )
    assert "Choose a smaller size" in done.stdout, done.stderr
