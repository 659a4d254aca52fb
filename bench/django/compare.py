"""Cached reads of Django's ORM beside those of its peers, in one run: `make bench-django`.

    python bench/django/compare.py [--quick] [--out FOLDER]

Each contender is a process (peer.py); all are asked in turn, in an order that
changes, and what is shown are medians over the rounds. Writes django.md,
django.json and a picture, and prints the goals.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import goals
import pages
import pictures
import report
import servers
import timing

HERE = Path(__file__).parent
OURS, SHARED, UNCACHED = "zoocache", "zoocache, shared level only", "no cache"
THEIRS = ("django-cacheops", "django-cachalot, Redis", "django-cachalot, LocMem")
NEEDS = {"django-cacheops": "cacheops", "django-cachalot": "cachalot"}
SAMPLE = 0.006  # seconds
CLOSE = ("10 rows", "save")
CLOSER = 8  # times as many samples of these, whose goals leave little room
NOTES = """\
Times are medians over interleaved rounds, in us, on a machine that may be shared: only the ratios
within this run mean something. Behind each time: how many times as long as zoocache it takes.
Redis is asked over a unix socket; LocMem is private to each process, so each worker fills its own.
SQLite is a file in shared memory, in WAL mode. "shared level only": with `LOCAL` at 0, what the
first hit in another process costs. `prefetch_related` reads the related objects, too.
"""


class Peer:
    """A contender's process."""

    def __init__(self, name: str, database: str, folder: str, redis: str) -> None:
        self.name = name
        command = [sys.executable, str(HERE / "peer.py"), name, database, folder, redis]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.asks, self.answers = self.process.stdin, self.process.stdout
        self.shapes: list[str] = self._read()
        self.counts: dict[str, int] = {}

    def _read(self) -> Any:
        line = self.answers.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with {self.process.wait()}")
        return json.loads(line)

    def ask(self, *question: Any) -> Any:
        self.asks.write(json.dumps(question) + "\n")
        self.asks.flush()
        return self._read()

    def sample(self, shape: str) -> float:
        """Nanoseconds of one operation, over as many as fit into a sample."""
        if shape not in self.counts:
            self.ask(shape, 3)
            taken = self.ask(shape, 5)
            self.counts[shape] = max(3, min(2000, int(SAMPLE * 1e9 / taken)))
        return self.ask(shape, self.counts[shape])  # type: ignore[no-any-return]

    def close(self) -> None:
        self.asks.close()
        self.process.wait(20)


@contextlib.contextmanager
def postgres() -> Iterator[str | None]:
    """Connection settings of a database of this run's own; None where there is no server."""
    try:
        import psycopg

        admin = psycopg.connect("dbname=postgres", autocommit=True)
    except Exception:
        yield None
        return
    name = f"zoocache_bench_{os.getpid()}"
    admin.execute(f'CREATE DATABASE "{name}"')
    try:
        yield json.dumps({"NAME": name})
    finally:
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        admin.close()


def by_shape(pair: tuple[Peer, str]) -> str:
    """Puts a shape beside its floor."""
    return pair[1].removeprefix("floor: ")


def measure(rounds: int, place: servers.Place, missing: dict[str, str]) -> dict[str, Any]:
    folder = str(place.folder)
    peers = []
    with postgres() as database, contextlib.ExitStack() as stack:
        wanted = [(name, "sqlite") for name in (UNCACHED, OURS, SHARED, *THEIRS)]
        if database is None:
            missing["no cache, PostgreSQL"] = "there is no server that lets this user in"
        else:
            wanted.append(("no cache, PostgreSQL", database))
        for name, where in wanted:
            try:
                peer = Peer(name, where, folder, place.redis)
            except Exception as error:
                package = next((one for one in NEEDS if name.startswith(one)), "")
                missing[name] = f"{error}; it needs Redis and: pip install {package}"
                continue
            stack.callback(peer.close)
            peers.append(peer)
        shuffle = random.Random(1).shuffle
        taken: dict[str, dict[str, list[float]]] = {}
        pairs = [(peer, shape) for peer in peers for shape in peer.shapes]
        for peer, shape in pairs:
            peer.sample(shape)
        for _ in range(rounds):
            shuffle(pairs)
            # One shape after the other, so that those who are compared are close in time.
            for name, together in itertools.groupby(sorted(pairs, key=by_shape), key=by_shape):
                for peer, shape in list(together) * (CLOSER if name in CLOSE else 1):
                    taken.setdefault(shape, {}).setdefault(peer.name, []).append(peer.sample(shape))
        shapes = dict.fromkeys(shape for peer in peers for shape in peer.shapes)
        times = {
            shape: {name: statistics.median(all_) for name, all_ in taken[shape].items()}
            for shape in shapes
        }
        lost = {peer.name: peer.ask("precision") for peer in peers}
    return {"times": times, "precision": lost}


def judge(results: dict[str, Any]) -> Iterator[goals.Goal]:
    times, lost = results.get("times", {}), results.get("precision", {})

    def best(shape: str, *, uncached: bool = False) -> float:
        names = [*THEIRS, *([UNCACHED] if uncached else [])]
        return min(times[shape][name] for name in names if name in times[shape])

    for name, limit in ((OURS, 25), (SHARED, 12)):
        yield goals.at_least(
            f"get: the best peer, or none, to {name}", limit,
            lambda name=name: best("get", uncached=True) / times["get"][name],
        )  # fmt: skip
    for rows in (10, 40, 100):
        shape = f"{rows} rows"
        yield goals.at_most(
            f"{shape}: zoocache to the floor", 1.4,
            lambda shape=shape: times[shape][OURS] / times[f"floor: {shape}"][OURS],
        )  # fmt: skip
        yield goals.at_least(
            f"{shape}: the best peer to zoocache", 8,
            lambda shape=shape: best(shape) / times[shape][OURS],
        )  # fmt: skip
    for shape, limit in (
        ("count", 25), ("exists", 25), ("first", 25), ("select_related", 8), ("values_list", 8),
        ("prefetch_related", 8), ("annotate", 8),
    ):  # fmt: skip
        yield goals.at_least(
            f"{shape}: the best peer to zoocache", limit,
            lambda shape=shape: best(shape) / times[shape][OURS],
        )  # fmt: skip
    for what in ("of 100 gets", "of 10 lists"):
        yield goals.at_most(
            f"one save() throws away, {what}", 1, lambda what=what: lost[OURS][what], unit=""
        )
    yield goals.at_most(
        "save(): zoocache to no cache", 1.15, lambda: times["save"][OURS] / times["save"][UNCACHED]
    )
    yield goals.at_most(
        "save(): statements beside those without a cache", 0,
        lambda: lost[OURS]["statements of a save"] - lost[UNCACHED]["statements of a save"],
        unit="",
    )  # fmt: skip
    yield goals.at_most(
        "@cacheable: a local hit to lru_cache", 2,
        lambda: times["@cacheable"][OURS] / times["lru_cache"][OURS],
    )  # fmt: skip


def sections(results: dict[str, Any]) -> Iterator[tuple[str, str]]:
    times = results.get("times", {})
    names = list(dict.fromkeys(name for by in times.values() for name in by))
    names.sort(key=lambda name: times.get("get", {}).get(name, 0))
    rows = []
    for shape, by in times.items():
        if len(by) > 1:
            row = [shape]
            for name in names:
                row += [f"{by[name] / 1000:,.1f}", report.ratio(by[name] / by[OURS])]
            rows.append(row)
    heads = ["us", *_flat((name, "/zoo") for name in names)]
    yield "Reads, and save()", report.table(heads, rows)
    alone = [[shape, f"{by[OURS] / 1000:,.2f}"] for shape, by in times.items() if len(by) == 1]
    yield "Floors, and functions", report.table(("", "us"), alone)
    lost = results.get("precision", {})
    if lost:
        whats = list(next(iter(lost.values())))
        yield (
            "What one save() throws away, and how many statements it takes",
            report.table(
                ("", *whats),
                ([name, *(str(by[what]) for what in whats)] for name, by in lost.items()),
            ),
        )
    if served := results.get("pages"):
        yield (
            "The example site's pages under gunicorn with 4 workers: requests a second",
            report.table(
                ("", "requests/s", "/zoo"),
                (
                    [name, f"{value:,.0f}", report.ratio(value / served[OURS])]
                    for name, value in served.items()
                ),
            ),
        )


def _flat(pairs: Any) -> list[str]:
    return [cell for pair in pairs for cell in pair]


def draw(results: dict[str, Any], folder: Path) -> list[str]:
    times = results["times"]
    panels = {
        shape: {name: value / times[shape][OURS] for name, value in times[shape].items()}
        for shape in ("get", "10 rows", "100 rows", "count", "select_related", "prefetch_related")
        if shape in times
    }
    if not pictures.can_draw(results):
        return []
    title = "How many times as long as with zoocache a cached read takes (log scale)"
    return [pictures.bars(folder / "django.svg", title, panels, log=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a minute, and rough")
    parser.add_argument("--out", type=Path, default=HERE.parent / "results", metavar="FOLDER")
    arguments = parser.parse_args()
    missing: dict[str, str] = {}
    results: dict[str, Any] = {"conditions": timing.conditions(), "missing": missing}
    with servers.place(f"bench-{os.getpid()}") as place:
        results |= measure(3 if arguments.quick else 15, place, missing)
        results["pages"] = pages.measure(place, 2 if arguments.quick else 5, missing)
    results["conditions"]["load average after"] = [round(load, 2) for load in os.getloadavg()]
    judged = list(judge(results))
    results["goals"] = [{**dataclasses.asdict(goal), "verdict": goal.verdict()} for goal in judged]
    arguments.out.mkdir(parents=True, exist_ok=True)
    made = draw(results, arguments.out)
    (arguments.out / "django.json").write_text(json.dumps(results, indent=2) + "\n")
    (arguments.out / "django.md").write_text(text(results, judged, made))
    for title, body in sections(results):
        print(f"\n{title}\n{body}")
    print(f"\n{report.goal_table(judged)}")


def text(results: dict[str, Any], judged: list[goals.Goal], made: list[str]) -> str:
    lines = ["# Django's ORM, cached, side by side in one run", "", NOTES]
    lines += [f"![{name.removesuffix('.svg')}]({name})" for name in made]
    about = "\n".join(f"{name}: {value}" for name, value in results["conditions"].items())
    lines += ["", "```", about, "```", "", "## goals", "", "```", report.goal_table(judged), "```"]
    for title, body in sections(results):
        lines += ["", f"## {title}", "", "```", body, "```"]
    if results["missing"]:
        gone = "\n".join(f"{name}: {why}" for name, why in results["missing"].items())
        lines += ["", "## not measured", "", "```", gone, "```"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
