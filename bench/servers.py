"""A temporary place in shared memory, with a memcached and a Redis of its own on unix sockets."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from zoocache.shm import unlink


@dataclass
class Place:
    """Where the contenders keep what they share, and how large the values are."""

    folder: Path
    segment: str
    size: int = 1024
    memcached: str = ""
    redis: str = ""

    def sized(self, size: int) -> Place:
        """The same servers, and files and segments apart from those of other sizes."""
        folder = self.folder / str(size)
        folder.mkdir(exist_ok=True)
        return Place(folder, f"{self.segment}-{size}", size, self.memcached, self.redis)

    def clear(self) -> None:
        """Gives back the memory of its files and segments, and of those whose names go on so."""
        shutil.rmtree(self.folder, ignore_errors=True)
        before = f"zoocache-{os.geteuid()}-"
        for left in Path("/dev/shm").glob(f"{before}{self.segment}*"):
            unlink(left.name.removeprefix(before))


class MissingServerError(Exception):
    """The program is not installed here."""


def start(program: str, path: str, *options: str) -> subprocess.Popen[bytes] | None:
    """Starts a server and waits for its socket; None if it is not installed."""
    found = shutil.which(program)
    if found is None:
        return None
    server = subprocess.Popen([found, *options], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and server.poll() is None:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            return server
        time.sleep(0.01)
    stop(server)
    return None


def stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(5)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def start_memcached(path: str) -> subprocess.Popen[bytes] | None:
    # As root it wants to be told that it may.
    user = ["-u", "root"] if os.geteuid() == 0 else []
    return start("memcached", path, "-s", path, "-m", "1024", "-t", "2", *user)


def start_redis(path: str) -> subprocess.Popen[bytes] | None:
    return start(
        "redis-server", path, "--port", "0", "--unixsocket", path, "--save", "",
        "--appendonly", "no", "--dir", str(Path(path).parent), "--loglevel", "warning",
    )  # fmt: skip


@contextmanager
def place(segment: str) -> Iterator[Place]:
    """Nothing here is written to a disk: /dev/shm holds the files of LMDB and of diskcache, too."""
    shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(
        prefix="zoobench-", dir=shm, ignore_cleanup_errors=True
    ) as folder:
        here = Place(Path(folder), segment)
        servers = []
        try:
            path = f"{folder}/memcached"
            if server := start_memcached(path):
                servers.append(server)
                here.memcached = path
            path = f"{folder}/redis"
            if server := start_redis(path):
                servers.append(server)
                here.redis = path
            yield here
        finally:
            for server in servers:
                stop(server)
            here.clear()
