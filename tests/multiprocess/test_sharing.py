"""Forked, spawned and late processes see one another's sets, deletes and invalidations."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from zoocache.shm import Cache, Segment

HERE = Path(__file__).parent


class Peer:
    """A process of peer.py, perhaps run by another command."""

    def __init__(self, name: str, *how: str, by: Sequence[str] = ()) -> None:
        self.process = subprocess.Popen(
            [*by, sys.executable, str(HERE / "peer.py"), name, *how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __getattr__(self, command: str) -> Any:
        def ask(*arguments: object) -> Any:
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            self.process.stdin.write(json.dumps([command, *arguments]) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
            assert line, "the peer has died: see its traceback"
            return json.loads(line)

        return ask

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()

    def end(self) -> None:
        self.process.stdin.close()
        try:
            assert self.process.wait(20) == 0
        finally:
            self.process.kill()
            self.process.stdout.close()


@pytest.fixture
def peers(cache: Cache) -> Iterator[list[Peer]]:
    cache.set("opened before the fork", b"yes")
    peers = [Peer(cache.segment.name, how) for how in ("fork", "spawn", "late")]
    yield peers
    for peer in peers:
        peer.end()


def test_everybody_sees_everybody(cache: Cache, peers: list[Peer]) -> None:
    assert len({os.getpid(), *(peer.pid() for peer in peers)}) == 4
    for writer in peers:
        assert writer.set("key", f"by {writer.pid()}", ["t:1"]) == "STORED"
        assert cache.get("key") == f"by {writer.pid()}".encode()
        assert [reader.get("key") for reader in peers] == [f"by {writer.pid()}"] * 3
        writer.delete("key")
        assert [reader.get("key") for reader in peers] == [None] * 3
    for writer in peers:
        cache.set("key", b"v", tags=["t:1"])
        assert [reader.get("key") for reader in peers] == ["v"] * 3
        writer.invalidate("t")
        assert [reader.get("key") for reader in peers] == [None] * 3
        assert cache.get("key") is None
        cache.set("key", b"w")
        assert [reader.get("key") for reader in peers] == ["w"] * 3
        writer.clear()
        assert [reader.get("key") for reader in peers] == [None] * 3


def test_a_fill_of_one_is_killed_by_the_invalidation_of_another(
    cache: Cache, peers: list[Peer]
) -> None:
    for filler in peers:
        for writer in peers:
            stamp = filler.stamp()
            writer.invalidate("row:1")
            assert filler.fill("key", "old row", stamp, ["row:1"]) == "BORN_DEAD"
            assert writer.get("key") is None
            assert filler.fill("key", "new row", filler.stamp(), ["row:1"]) == "STORED"
            assert writer.get("key") == "new row"


def test_a_segment_outlives_its_workers(segment_name: str) -> None:
    Cache(Segment(segment_name, 1 << 20)).set("opened before the fork", b"yes")
    first = Peer(segment_name, "late")
    first.set("key", "v", ["t"])
    first.end()
    second = Peer(segment_name, "fork")
    assert second.get("key") == "v"
    second.end()
