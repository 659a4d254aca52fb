"""gunicorn's workers are killed at random under load with writes, and every answer is judged.

    make soak SOAK_SECONDS=600      # writes bench/results/soak.md
    python tests/multiprocess/soak.py SECONDS [REPORT]

One worker is spared, to see whether it grows, and so is the master, which runs the hook of
zoocache.contrib.gunicorn. The test suite runs the same for some seconds.
"""

from __future__ import annotations

import math
import os
import platform
import random
import re
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from http.client import HTTPException
from importlib.metadata import version
from pathlib import Path

import postgres
from gunicorn_site import THINGS, Answer, Site, make_database
from site_checks import READERS, Ledger, new_name

from zoocache.shm import Cache, Segment

WORKERS, CLIENTS = 4, 4
SECONDS_BETWEEN_KILLS = 3.0  # on average
SHARE_OF_WRITES = 0.08
WRITERS = ["save", "update", "bulk_update", "replace"]  # raw SQL drops the whole table
THINK = 0.003  # seconds, of a client between two requests
LONG = 120  # seconds from which on growth and recovery say something
MIB = 1 << 20
GROWTH = 8 * MIB  # what is no growth yet: allocators keep what they had once


@dataclass
class Second:
    """What the clients saw in a second, and what was measured at its end."""

    reads: int = 0
    hits: int = 0
    writes: int = 0
    lost: int = 0
    after_kill: bool = False
    spared: int = 0  # bytes of anonymous memory
    master: int = 0
    segment: int = 0  # bytes that are allocated


@dataclass
class Soak:
    """A run, and what came of it."""

    database: str
    seconds: list[Second] = field(default_factory=list)
    kills: int = 0
    stale: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    unknown: int = 0
    """Writes whose worker died before it answered."""
    counters: dict[str, int] = field(default_factory=dict)
    sound: bool = False

    def sum(self, what: str, of: list[Second] | None = None) -> int:
        return sum(getattr(one, what) for one in (self.seconds if of is None else of))

    def ratio(self, of: list[Second] | None = None) -> float:
        return self.sum("hits", of) / max(1, self.sum("reads", of))

    def part(self, n: int, parts: int) -> list[Second]:
        size = len(self.seconds)
        return self.seconds[n * size // parts : (n + 1) * size // parts]

    def problems(self) -> list[str]:
        """What must not be, in words."""
        found = [f"stale: {one}" for one in self.stale[:5]] + self.errors
        if not self.sound:
            found.append("zoo_check found a violation, or an announcement that nobody settled")
        if not self.kills or not self.sum("hits") or not self.sum("writes"):
            found.append("nothing was killed, or read from the cache, or written")
        if len({one.segment for one in self.seconds}) != 1:
            found.append("the segment's memory changed")
        if len(self.seconds) >= LONG:
            found += self._in_the_long_run()
        return found

    def _in_the_long_run(self) -> Iterator[str]:
        first, last = self.part(1, 10), self.part(9, 10)
        for who in ("spared", "master"):
            before, after = (max(getattr(one, who) for one in part) for part in (first, last))
            if after > before + GROWTH:
                yield f"the {who} process grew from {before:,} to {after:,} bytes"
        if self.ratio(last) < self.ratio(first) - 0.05:
            yield f"the hit ratio went down from {self.ratio(first):.3f} to {self.ratio(last):.3f}"


class Judge(Ledger):
    """Counts by seconds, and says of a stale answer what the database has."""

    def __init__(self, soak: Soak) -> None:
        super().__init__()
        self.soak = soak
        self.counts: Counter[str] = Counter()

    def count(self, what: str, n: int = 1) -> None:
        with self.lock:
            self.counts[what] += n

    def read(self, site: Site, how: str, pk: int) -> Answer:
        answer = super().read(site, how, pk)
        self.count("reads")
        self.count("hits", answer.from_cache)
        return answer

    def write(self, site: Site, how: str, pk: int) -> None:
        super().write(site, how, pk)
        self.count("writes")

    def blame(self, site: Site, pk: int, told: str) -> None:
        super().blame(site, pk, f"{told}; the database has {site.read('database', pk).value}")


def run(site: Site, soak: Soak, seconds: float, seed: int) -> None:
    judge, stop = Judge(soak), threading.Event()
    threads = [
        threading.Thread(target=_client, args=[site, judge, stop, seed + n], name=f"client {n}")
        for n in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    try:
        _kill_and_measure(site, judge, seconds, random.Random(seed))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    soak.stale, soak.unknown = judge.stale, judge.counts["unknown"]
    cache = Cache(Segment(site.name))
    for pk in THINGS:  # whoever misses settles what the dead have left
        judge.read(site, "row", pk)
    checked = cache.segment.check()
    soak.sound = checked.sound and checked.lanes_taken == 0
    soak.counters = cache.stats()


def _client(site: Site, judge: Judge, stop: threading.Event, seed: int) -> None:
    chance = random.Random(seed)
    while not stop.wait(THINK):
        pk, writes = chance.choice(THINGS), chance.random() < SHARE_OF_WRITES
        how = chance.choice(WRITERS if writes else READERS)
        try:
            (judge.write if writes else judge.read)(site, how, pk)
        except (ConnectionError, HTTPException):
            judge.count("lost")
            judge.count("unknown", writes)
        except BaseException as error:  # a timeout above all: somebody is stuck
            judge.soak.errors.append(f"{how} of {pk}: {error!r}")


def _kill_and_measure(site: Site, judge: Judge, seconds: float, chance: random.Random) -> None:
    soak, started = judge.soak, time.monotonic()
    spared = min(site.pids())
    next_kill = 1.0
    while (now := time.monotonic() - started) < seconds and not soak.errors:
        before, killed = Counter(judge.counts), False
        if now >= next_kill:
            victims = sorted(site.pids() - {spared})
            if victims:
                os.kill(chance.choice(victims), signal.SIGKILL)
                soak.kills += 1
                killed = True
            next_kill = now + chance.uniform(0, 2 * SECONDS_BETWEEN_KILLS)
        time.sleep(max(0.0, started + math.floor(now) + 1 - time.monotonic()))
        found = Counter(judge.counts)
        found.subtract(before)
        soak.seconds.append(
            Second(
                **{key: found[key] for key in ("reads", "hits", "writes", "lost")},
                after_kill=killed,
                spared=_own_bytes(spared),
                master=_own_bytes(site.process.pid),
                segment=site.segment.stat().st_blocks * 512,
            )
        )


def _own_bytes(pid: int) -> int:
    """Anonymous memory: the segment's pages count with nobody, or with whoever touched them."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(re.search(r"RssAnon:\s+(\d+) kB", status)[1])


def soak(folder: Path, seconds: float, seed: int, **environment: str) -> Soak:
    """A run on a database of its own: of PostgreSQL, where there is a server, else of SQLite."""
    path, server = folder / "site.sqlite3", postgres.find()
    with postgres.new(server) if server else nullcontext({}) as database:
        environment |= database
        make_database(path, **environment)
        name, options = new_name(), ["--config", "reaping.conf.py"]
        site = Site(folder / "site", path, name, *options, workers=WORKERS, **environment)
        with site:
            found = Soak("PostgreSQL" if server else "SQLite")
            run(site, found, seconds, seed)
            return found


def report(found: Soak, load: tuple[float, ...]) -> str:
    """The figures as a page."""
    rows, quiet = [], [one for one in found.seconds if not one.after_kill]
    after = [one for one in found.seconds if one.after_kill]
    for n in range(10):
        part = found.part(n, 10)
        rows.append(
            f"| {n * len(found.seconds) // 10} | {found.sum('reads', part):,} "
            f"| {found.sum('writes', part):,} | {sum(one.after_kill for one in part)} "
            f"| {found.ratio(part):.3f} | {max(one.spared for one in part) / MIB:.1f} "
            f"| {max(one.master for one in part) / MIB:.1f} | {part[-1].segment / MIB:.2f} |"
        )
    counters = found.counters
    verdict = "\n".join(f"- {one}" for one in found.problems()) or "None of what must not be."
    return PAGE.format(
        seconds=len(found.seconds), workers=WORKERS, clients=CLIENTS, database=found.database,
        every=SECONDS_BETWEEN_KILLS, reads=found.sum("reads"), writes=found.sum("writes"),
        kills=found.kills, lost=found.sum("lost"), unknown=found.unknown, stale=len(found.stale),
        quiet=found.ratio(quiet), after=found.ratio(after), reaped=counters["reaped"],
        announced=counters["announced"], verdict=verdict, rows="\n".join(rows),
        python=platform.python_version(), gunicorn=version("gunicorn"), django=version("django"),
        cores=os.cpu_count(), kernel=platform.release(), nice=os.nice(0),
        before=load, after_load=tuple(round(one, 1) for one in os.getloadavg()),
    )  # fmt: skip


PAGE = """\
# A soak: workers killed under load

By `make soak`. gunicorn with {workers} sync workers and the hook of `zoocache.contrib.gunicorn`,
Django, {database}; {clients} clients as fast as they get answers, reading 60 rows in seven ways and
writing them in four. A worker is killed with `kill -9` every {every:.0f} s on average, at random
times. One worker is spared, and shows whether it grows.

Each answer is judged: it must show no less than what was confirmed, or seen by anybody, before its
request was sent.

| | |
| --- | --- |
| seconds | {seconds} |
| reads judged | {reads:,} |
| **stale** | **{stale}** |
| writes | {writes:,} |
| workers killed | {kills} |
| requests lost with their worker | {lost}, of them {unknown} writes of unknown outcome |
| commits announced | {announced:,}; {reaped} of them settled for the dead |
| hit ratio in seconds without a kill | {quiet:.3f} |
| hit ratio in the second after a kill | {after:.3f} |

What must not be (stale answers, errors, a segment that fails `zoo_check`, processes or a segment
that grow, a hit ratio that goes down): {verdict}

| from second | reads | writes | kills | hit ratio | spared worker | master | segment |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
{rows}

Each row is a tenth of the run. Memory is in MiB: the most of the process's anonymous memory, and
what is allocated for the segment.

Python {python}, Django {django}, gunicorn {gunicorn}, Linux {kernel}, {cores} cores, niceness
{nice}, load average before {before}, after {after_load}: the machine is shared, so rates mean
nothing.
"""


def main(seconds: str = "600", page: str = "") -> None:
    load = tuple(round(one, 1) for one in os.getloadavg())
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"{seconds} s, seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        found = soak(Path(folder), float(seconds), seed)
    text = report(found, load)
    if page:
        Path(page).write_text(text)
    print(text)
    sys.exit(bool(found.problems()))


if __name__ == "__main__":
    main(*sys.argv[1:])
