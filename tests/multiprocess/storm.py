"""Random operations of many processes on a tiny segment, killed at random, and an exact oracle.

    python storm.py SEGMENT SECONDS SEED [MISUSE]

A small process that forks the workers: some live for the whole storm, the
others are stopped and killed after a millisecond or so. Prints its totals as
JSON and exits with 0, or what was wrong and exits with 1.

The oracle. `Board` is memory that all workers share and that is no part of the
segment. It holds the "database": a version for each row. A write raises the
row's version, then invalidates its tag, then acknowledges the version. A get
first reads the acknowledged versions; what it finds must not be older, must be
of its key, and must be whole. Each row and each plain key has one writer, and
a writer killed half-way is succeeded by another: what it did not acknowledge,
nobody expects. A write that was announced is acknowledged before it is settled:
from its announcement on, no old value may be served, whatever becomes of it.

Gets of queries go by turns to the segment and to the copies that the worker's
process-local level keeps.

MISUSE breaks the rules of the API on purpose, so that the oracle must notice:
`late-stamp` takes a fill's stamp after it has read the rows, `no-invalidate`
forgets to invalidate, `swap` stores a value under another key, `tear` changes
one byte of a value, and `blind` serves copies that nobody has looked at again.
"""

from __future__ import annotations

import ctypes
import faulthandler
import hashlib
import json
import mmap
import os
import random
import signal
import struct
import sys
import time
import traceback

from zoocache import local
from zoocache.shm import MIN_SIZE, Cache, Outcome, Segment
from zoocache.shm.intent import End

SURVIVORS = 3
VICTIMS = 4
SLOTS = SURVIVORS + VICTIMS
ROWS = 2 * SLOTS
QUERIES = 12
PLAIN = 2 * SLOTS
STUCK_AFTER = 20.0  # seconds without progress

COUNTS = (
    "operations", "gets", "hits", "fills_stored", "fills_refused", "sets", "deletes",
    "invalidations", "announcements", "local_hits", "bytes_stored",
)  # fmt: skip

ROWS_OF_QUERY = [sorted({q % ROWS, (5 * q + 1) % ROWS, (7 * q + 3) % ROWS}) for q in range(QUERIES)]


class Wrong(Exception):
    """A promise is broken."""


class Board:
    """Arrays of 64-bit words in shared memory. Each word has one writer."""

    def __init__(self) -> None:
        sizes = {
            "row": ROWS,  # the database
            "row_acked": ROWS,
            "query_floor": QUERIES * ROWS,  # acknowledged for one query only, by a delete
            "plain": PLAIN,  # the last version that a writer has begun to store
            "plain_acked": PLAIN,
            "count": SLOTS * len(COUNTS),
            "stop": 1,
        }
        words = memoryview(mmap.mmap(-1, 8 * sum(sizes.values()))).cast("Q")
        at = 0
        for name, size in sizes.items():
            setattr(self, name, words[at : at + size])
            at += size

    def totals(self) -> dict[str, int]:
        n = len(COUNTS)
        return {name: sum(self.count[i::n]) for i, name in enumerate(COUNTS)}


def compose(key: str, versions: list[int], rng: random.Random) -> bytes:
    """A value that says whose it is, of what versions, and that it is whole."""
    length = rng.randrange(8) * rng.randrange(900)
    body = (
        struct.pack(f"<H{len(versions)}Q", len(versions), *versions)
        + bytes([length % 251]) * length
    )
    body = key.encode() + b"\0" + body
    return hashlib.blake2b(body, digest_size=16).digest() + body


def take_apart(key: str, value: bytes) -> tuple[int, ...]:
    digest, body = value[:16], value[16:]
    if hashlib.blake2b(body, digest_size=16).digest() != digest:
        raise Wrong(f"torn: {key!r} has {len(value)} bytes that do not fit their digest")
    whose, _, rest = body.partition(b"\0")
    if whose.decode() != key:
        raise Wrong(f"the value of {whose!r} was served for {key!r}")
    (n,) = struct.unpack_from("<H", rest)
    return struct.unpack_from(f"<{n}Q", rest, 2)


class Worker:
    def __init__(self, board: Board, cache: Cache, slot: int, seed: str, misuse: str) -> None:
        self.board = board
        self.cache = cache
        self.slot = slot
        self.rng = random.Random(seed)
        self.misuse = misuse
        n = len(COUNTS)
        self.counts = board.count[slot * n : (slot + 1) * n]
        self.index = {name: i for i, name in enumerate(COUNTS)}
        local.open_level(cache, 1 << 20)
        self.copies = local.copies
        self.unverified: dict[str, bytes] = {}

    def count(self, name: str, n: int = 1) -> None:
        self.counts[self.index[name]] += n

    def run(self) -> None:
        actions = (
            [self.get_query] * 3 + [self.get_copy] * 6 + [self.get_plain] * 4 + [self.fill] * 4
            + [self.refill] + [self.set_plain] * 2 + [self.delete_plain] + [self.write]
            + [self.write_announced] + [self.write_by_delete]
        )  # fmt: skip
        choice, stop = self.rng.choice, self.board.stop
        while not stop[0]:
            choice(actions)()
            self.count("operations")

    # Queries: values made from rows.

    def least(self, query: int) -> list[int]:
        rows = ROWS_OF_QUERY[query]
        board = self.board
        return [max(board.row_acked[r], board.query_floor[query * ROWS + r]) for r in rows]

    def check_query(self, query: int, value: bytes, least: list[int]) -> None:
        rows = ROWS_OF_QUERY[query]
        versions = take_apart(f"q{query}", value)
        for row, version, wanted in zip(rows, versions, least, strict=True):
            if version < wanted:
                raise Wrong(
                    f"stale: q{query} has version {version} of row {row}, but {wanted} was "
                    f"acknowledged before the get began"
                )
            if version > self.board.row[row]:
                raise Wrong(f"q{query} has version {version} of row {row} from the future")

    def get_query(self) -> None:
        query = self.rng.randrange(QUERIES)
        least = self.least(query)
        value = self.cache.get(f"q{query}")
        self.count("gets")
        if value is not None:
            self.check_query(query, value, least)
            self.count("hits")

    def get_copy(self) -> None:
        query = self.rng.randrange(QUERIES)
        key, least = f"q{query}", self.least(query)
        value = self.unverified.get(key) or self.copies.get(key)
        self.count("gets")
        if value is not None:
            self.check_query(query, value, least)
            self.count("local_hits")
            return
        found = self.cache.get_with_deps(key)
        if found is not None:
            self.check_query(query, found.value, least)
            self.count("hits")
            if self.misuse == "blind":
                self.unverified[key] = found.value
            self.pause()  # what ends the entry now must not be passed over
            about = (found.deps, found.stamp, found.expiry, len(found.value))
            self.copies.put(key, found.value, key.encode(), *about)

    def pause(self) -> None:
        """Between the read of the rows and the store: the race that stamps are for."""
        kind = self.rng.randrange(40)
        if kind == 0:
            time.sleep(self.rng.random() * 0.003)
        elif kind < 15:
            os.sched_yield()

    def fill(self) -> None:
        query = self.rng.randrange(QUERIES)
        stamp = self.cache.stamp()
        versions = [self.board.row[row] for row in ROWS_OF_QUERY[query]]
        self.pause()
        if self.misuse == "late-stamp":
            stamp = self.cache.stamp()
        self.store(query, versions, stamp, b"", [f"row:{r}" for r in ROWS_OF_QUERY[query]])

    def refill(self) -> None:
        """A fill made from a cached value: it must inherit what that one depends on."""
        query = self.rng.randrange(QUERIES)
        stamp = self.cache.stamp()
        least = self.least(query)
        found = self.cache.get_with_deps(f"q{query}")
        if found is None:
            return
        self.check_query(query, found.value, least)
        self.pause()
        versions = list(take_apart(f"q{query}", found.value))
        self.store(query, versions, stamp, found.deps, [])

    def store(
        self, query: int, versions: list[int], stamp: int, deps: bytes, tags: list[str]
    ) -> None:
        key = f"q{query}"
        value = compose(key, versions, self.rng)
        if self.misuse == "tear":
            middle = len(value) // 2
            value = value[:middle] + bytes([value[middle] ^ 1]) + value[middle + 1 :]
        if self.misuse == "swap":
            key = f"q{(query + 1) % QUERIES}"
        ttl = self.rng.choice([None, None, 60.0])
        outcome = self.cache.fill(key, value, stamp, ttl=ttl, tags=tags, deps=deps)
        self.count("fills_stored" if outcome is Outcome.STORED else "fills_refused")
        if outcome is Outcome.STORED:
            self.count("bytes_stored", len(value))

    def own_row(self) -> int:
        return self.rng.randrange(ROWS // SLOTS) * SLOTS + self.slot

    def write(self) -> None:
        board, cache = self.board, self.cache
        rows = {self.own_row() for _ in range(self.rng.choice([1, 1, 2]))}
        for row in rows:
            board.row[row] += 1
        versions = {row: board.row[row] for row in rows}
        kind = self.rng.randrange(20)
        if self.misuse == "no-invalidate":
            pass
        elif kind == 0:
            cache.clear()
        elif kind == 1:
            cache.invalidate("unrelated", "row")
        else:
            cache.invalidate(*(f"row:{row}" for row in rows))
        for row, version in versions.items():
            board.row_acked[row] = version
        self.count("invalidations")

    def write_announced(self) -> None:
        """As a COMMIT: nobody is served the old row from the announcement on."""
        row = self.own_row()
        intent = self.cache.intent()
        if self.misuse != "no-invalidate":
            intent.announce([f"row:{row}"], "", 0)
        self.board.row[row] += 1
        self.board.row_acked[row] = self.board.row[row]
        self.pause()
        if self.misuse != "no-invalidate" and not intent.settle(End.COMMITTED):
            self.cache.invalidate(f"row:{row}")
        self.count("announcements")

    def write_by_delete(self) -> None:
        """Deletes one query's key instead of invalidating: acknowledged for this query only."""
        row = self.own_row()
        queries = [q for q in range(QUERIES) if row in ROWS_OF_QUERY[q]]
        if not queries:
            return
        query = self.rng.choice(queries)
        self.board.row[row] += 1
        version = self.board.row[row]
        if self.misuse != "no-invalidate":
            self.cache.delete(f"q{query}")
        self.board.query_floor[query * ROWS + row] = version
        self.count("deletes")

    # Plain keys: set and delete by one writer each.

    def own_plain(self) -> int:
        return self.rng.randrange(PLAIN // SLOTS) * SLOTS + self.slot

    def set_plain(self) -> None:
        key = self.own_plain()
        version = self.board.plain[key] + 1
        self.board.plain[key] = version
        value = compose(f"p{key}", [version], self.rng)
        if self.rng.randrange(50) == 0:
            value = bytes(self.cache.segment.max_record)  # fails, and must remove what is there
        outcome = self.cache.set(f"p{key}", value)
        # Stored or not: from here on, no older value may be served.
        self.board.plain_acked[key] = version
        self.count("sets")
        if outcome is Outcome.STORED:
            self.count("bytes_stored", len(value))

    def delete_plain(self) -> None:
        key = self.own_plain()
        version = self.board.plain[key] + 1
        self.board.plain[key] = version
        self.cache.delete(f"p{key}")
        self.board.plain_acked[key] = version
        self.count("deletes")

    def get_plain(self) -> None:
        key = self.rng.randrange(PLAIN)
        wanted = self.board.plain_acked[key]
        value = self.cache.get(f"p{key}")
        self.count("gets")
        if value is None:
            return
        (version,) = take_apart(f"p{key}", value)
        if version < wanted:
            raise Wrong(f"p{key} has version {version}, but {wanted} was acknowledged")
        if version > self.board.plain[key]:
            raise Wrong(f"p{key} has version {version} from the future")
        self.count("hits")


class Storm:
    def __init__(self, name: str, seconds: float, seed: str, misuse: str) -> None:
        self.segment = Segment(name, MIN_SIZE)
        self.cache = Cache(self.segment)
        self.board = Board()
        self.seconds = seconds
        self.seed = seed
        self.misuse = misuse
        self.rng = random.Random(f"{seed} the killer")
        self.births = 0
        self.kills = 0
        self.stops = 0
        self.pids: list[int] = []

    def spawn(self, slot: int) -> int:
        self.births += 1
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                die_with(parent)
                if slot < SURVIVORS:
                    os.nice(5)  # the others come and go, and must not wait long for a core
                    faulthandler.register(signal.SIGUSR1)
                seed = f"{self.seed} {slot} {self.births}"
                Worker(self.board, self.cache, slot, seed, self.misuse).run()
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
        return pid

    def run(self) -> dict[str, int]:
        self.pids = [self.spawn(slot) for slot in range(SLOTS)]
        start = looked = time.monotonic()
        seen = [0] * SURVIVORS
        while time.monotonic() - start < self.seconds:
            time.sleep(self.rng.random() * 0.004)
            self.kill_some()
            self.look_after_survivors()
            if time.monotonic() - looked > STUCK_AFTER:
                looked = time.monotonic()
                seen = self.progress(seen)
        self.progress(seen)
        self.end()
        report = self.segment.check()
        if not report.sound:
            raise Wrong(f"the segment is not sound: {report}")
        totals = self.board.totals()
        totals["laps_at_least"] = totals.pop("bytes_stored") // self.segment.size
        return {**totals, "kills": self.kills, "stops": self.stops}

    def kill_some(self) -> None:
        victims = range(SURVIVORS, SLOTS)
        if self.rng.randrange(6) == 0:
            # A stalled writer: it wakes up when the log is laps ahead.
            pid = self.pids[self.rng.choice(victims)]
            os.kill(pid, signal.SIGSTOP)
            time.sleep(self.rng.random() * 0.01)
            os.kill(pid, signal.SIGCONT)
            time.sleep(self.rng.random() * 0.001)
            self.stops += 1
        for slot in victims:
            os.kill(self.pids[slot], signal.SIGKILL)
        for slot in victims:
            _, status = os.waitpid(self.pids[slot], 0)
            if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
                raise Wrong(f"a victim ended by itself, with status {status}: see above")
            self.kills += 1
            self.pids[slot] = self.spawn(slot)

    def look_after_survivors(self) -> None:
        for slot in range(SURVIVORS):
            pid, status = os.waitpid(self.pids[slot], os.WNOHANG)
            if pid:
                raise Wrong(f"survivor {slot} ended with status {status}: see above")

    def progress(self, seen: list[int]) -> list[int]:
        """The watchdog: a survivor that does nothing is stuck."""
        now = list(self.board.count[:: len(COUNTS)])[:SURVIVORS]
        for slot, (before, after) in enumerate(zip(seen, now, strict=True)):
            if after <= before:
                os.kill(self.pids[slot], signal.SIGUSR1)  # its traceback
                time.sleep(0.5)
                raise Wrong(f"survivor {slot} is stuck after {after} operations")
        return now

    def end(self) -> None:
        self.board.stop[0] = 1
        deadline = time.monotonic() + STUCK_AFTER
        for slot, pid in enumerate(self.pids):
            while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
                if time.monotonic() > deadline:
                    raise Wrong(f"the worker in slot {slot} does not end")
                time.sleep(0.001)
            if ended[1] != 0:
                raise Wrong(f"the worker in slot {slot} ended with status {ended[1]}: see above")


def die_with(parent: int) -> None:
    """The kernel kills this process when the storm's own ends, however that ends."""
    PR_SET_PDEATHSIG = 1
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


_libc = ctypes.CDLL(None, use_errno=True)


def main(name: str, seconds: str, seed: str, misuse: str = "") -> None:
    try:
        print(json.dumps(Storm(name, float(seconds), seed, misuse).run()))
    except Wrong as wrong:
        sys.exit(f"{wrong} (seed {seed!r})")


if __name__ == "__main__":
    main(*sys.argv[1:])
