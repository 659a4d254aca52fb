"""Memory: what an entry takes beside key and value, and whether hits make a worker grow."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers import DiskCache, Lmdb, LocMem, Peer, Pylibmc, RedisPy, Zoo, open_peers
from servers import Place
from timing import key_bytes, value_of

from zoocache.shm import Cache, Segment

VALUE = 100
FILLS = {"100 B": 100, "1 KiB": 1024}
SEGMENT = 64 << 20


def resident() -> dict[str, int]:
    """Bytes of this process: all that is in memory, and its own part (not files, not shared)."""
    fields = {
        line.split(":")[0]: int(line.split()[1]) * 1024
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith(("Rss", "VmRSS"))
    }
    return {"all": fields["VmRSS"], "own": fields["RssAnon"]}


def in_a_new_process(function: Callable[..., Any], *args: Any) -> Any:
    """What `function` returns in a process that has nothing of this one's memory."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)


def growth(place: Place, hits: int) -> dict[str, int]:
    """Resident bytes of a worker before and after so many hits, all entries read once before."""
    zoo = Zoo(place)
    Peer.fill(zoo, value_of(place.size))
    keys = random.Random(3).choices(zoo.keys(), k=10_000)
    for _ in range(5):
        for key in zoo.keys() + keys:
            assert zoo.get(key)
    before = resident()
    get = zoo.get
    for _ in range(hits // len(keys)):
        for key in keys:
            get(key)
    after = resident()
    return {
        "hits": hits,
        "before": before["all"],
        "after": after["all"],
        "grown": after["all"] - before["all"],
        "own, grown": after["own"] - before["own"],
    }


def zoo_overhead(place: Place, size: int, *, known: bool) -> float:
    """Bytes of a full segment for each entry that can be read in it, less key and value.

    Everything counts: header, index, tags, and room that the log cannot use. With `known`,
    the segment is told how long key and value are together (ENTRY_SIZE).
    """
    key_of = b"shop.Product:42:%07d".__mod__
    entry_size = size + len(key_of(0)) if known else 0
    segment = Segment(f"{place.segment}-full-{size}-{known:d}", SEGMENT, entry_size=entry_size)
    cache = Cache(segment)
    count = 2 * segment.size // (size + len(key_of(0)))
    value = value_of(size)
    for number in range(count):
        cache.set(key_of(number), value)
    # Counted by looking, not by getting: a hit may copy a record over another.
    return segment.size / segment.check().entries - size - len(key_of(0))


def key(number: int) -> str:
    return key_bytes(number).decode().ljust(22, "-")


def overheads(place: Place, count: int, missing: dict[str, str]) -> dict[str, float]:
    """Bytes beside key and value of 100 bytes, as each peer counts them itself."""
    found = {}
    for label, size in FILLS.items():
        found[f"zoocache, {label}"] = zoo_overhead(place, size, known=False)
        found[f"zoocache, {label}, ENTRY_SIZE"] = zoo_overhead(place, size, known=True)
    plain = len(key(0)) + VALUE
    value = value_of(VALUE)
    for peer in open_peers(place, (Lmdb, DiskCache, Pylibmc, RedisPy), missing):
        before = bytes_of(peer)
        for number in range(count):
            peer.set(key(number) if peer.keys_are is str else key(number).encode(), value)
        found[peer.name] = (bytes_of(peer) - before) / count - plain
        peer.close()
    found[LocMem.name] = in_a_new_process(locmem_bytes, place, count) - plain
    return found


def bytes_of(peer: Any) -> int:
    if isinstance(peer, Lmdb):
        return (peer.env.info()["last_pgno"] + 1) * peer.env.stat()["psize"]
    if isinstance(peer, DiskCache):
        return int(peer.cache.volume())
    if isinstance(peer, Pylibmc):  # whole slab pages would count what is free in them
        return int(peer.client.get_stats()[0][1]["bytes"])
    return int(peer.client.info("memory")["used_memory"])


def locmem_bytes(place: Place, count: int) -> float:
    locmem = LocMem(place)
    before = resident()["own"]
    for number in range(count):
        locmem.set(key(number), os.urandom(VALUE))
    return (resident()["own"] - before) / count


def measure(
    place: Place, hits: int, count: int, missing: dict[str, str]
) -> dict[str, dict[str, Any]]:
    folder = place.folder / "memory"  # files that nobody else has filled
    folder.mkdir()
    place = dataclasses.replace(place, folder=folder)
    return {
        "worker over hits": in_a_new_process(growth, place, hits),
        "bytes beside key and value": overheads(place, count, missing),
    }
