"""zoocache beside all that users would otherwise take, in one run: `make bench`.

    python bench/compare.py [--quick] [--only PART,...] [--out FOLDER]

Parts: speed, uwsgi, scaling, invalidation, memory, stampede, instructions.
Writes compare.md, compare.json and pictures, and prints the table of goals. A
contender that is not installed is named, with how to get it, and left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import goals
import instructions
import invalidation
import memory
import pictures
import report
import scaling
import servers
import speed
import stampede
import timing
import uwsgi_cache
from django.conf import settings
from peers import PEERS, DiskCache, Lmdb, Pylibmc, RedisPy, Zoo, open_peers

PARTS = ("speed", "uwsgi", "scaling", "invalidation", "memory", "stampede", "instructions")


@dataclasses.dataclass(frozen=True)
class Effort:
    """Sizes of values, rounds of each part, and the seconds of one sample."""

    sizes: tuple[str, ...] = tuple(timing.SIZES)

    rounds: int = 31
    budget: float = 0.004
    scaling: int = 9
    stampede: int = 7
    hits: int = 1_000_000
    entries: int = 50_000


QUICK = Effort(
    sizes=("100 B", "1 KiB", "10 KiB"),
    rounds=5,
    budget=0.002,
    scaling=2,
    stampede=2,
    hits=200_000,
    entries=10_000,
)


def run(parts: set[str], effort: Effort) -> dict[str, Any]:
    missing: dict[str, str] = {}
    results: dict[str, Any] = {"conditions": timing.conditions(), "missing": missing}
    seconds: dict[str, float] = {}
    with servers.place(f"bench-{os.getpid()}") as place:
        measures = {
            "speed": lambda: speeds(place, effort, missing),
            "uwsgi": lambda: uwsgi(place, effort, missing),
            "scaling": lambda: scaling.measure(
                place, (scaling.Floor, Zoo, Lmdb, DiskCache, Pylibmc, RedisPy), missing,
                effort.scaling,
            ),
            "invalidation": lambda: invalidation.measure(place, effort.rounds, effort.budget),
            "memory": lambda: memory.measure(place, effort.hits, effort.entries, missing),
            "stampede": lambda: stampede.measure(place, effort.stampede, missing),
            "instructions": lambda: instructions.measure(place, missing),
        }  # fmt: skip
        for part, measure in measures.items():
            if part not in parts:
                continue
            print(f"{part} ...", file=sys.stderr, flush=True)
            start = time.monotonic()
            try:
                results[part] = measure()
            except Exception as error:  # the other parts are worth having all the same
                missing[part] = f"failed: {type(error).__name__}: {error}"
                print(missing[part], file=sys.stderr, flush=True)
            seconds[part] = round(time.monotonic() - start, 1)
    results["conditions"]["load average after"] = [round(load, 2) for load in os.getloadavg()]
    results["conditions"]["seconds"] = seconds
    results["conditions"]["effort"] = dataclasses.asdict(effort)
    return results


def speeds(place: servers.Place, effort: Effort, missing: dict[str, str]) -> dict[str, Any]:
    taken = {}
    for label in effort.sizes:
        here = place.sized(timing.SIZES[label])
        peers = open_peers(here, PEERS, missing)
        taken[label] = speed.measure(peers, here, effort.rounds, effort.budget)
        for peer in peers:
            peer.close()
        here.clear()
    return taken


def uwsgi(place: servers.Place, effort: Effort, missing: dict[str, str]) -> dict[str, Any]:
    taken = {}
    for label in effort.sizes:
        size = timing.SIZES[label]
        here = place.sized(size)
        found = uwsgi_cache.measure(
            here, effort.rounds, effort.budget, effort.scaling * (size == 1024)
        )
        here.clear()
        if found is None:
            missing[uwsgi_cache.Uwsgi.name] = f"to have it: {uwsgi_cache.HOW}"
            break
        taken[label] = found
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under a minute, and rough")
    parser.add_argument("--only", default=",".join(PARTS), metavar="PART,...")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results", metavar="FOLDER"
    )
    arguments = parser.parse_args()
    parts = set(arguments.only.split(","))
    if unknown := parts - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    settings.configure(USE_TZ=True)
    if arguments.quick:
        parts.discard("instructions")  # callgrind is slow to start
    results = run(parts, QUICK if arguments.quick else Effort())
    judged = goals.judge(results)
    results["goals"] = [{**dataclasses.asdict(goal), "verdict": goal.verdict()} for goal in judged]
    arguments.out.mkdir(parents=True, exist_ok=True)
    made = pictures.draw(results, arguments.out)
    (arguments.out / "compare.json").write_text(json.dumps(results, indent=2) + "\n")
    (arguments.out / "compare.md").write_text(report.text(results, judged, made))
    for title, body in report.sections(results):
        print(f"\n{title}\n{body}")
    print(f"\n{report.goal_table(judged)}")
    for name, why in results["missing"].items():
        print(f"not measured: {name}: {why}")
    print(f"written to {arguments.out}: compare.md, compare.json, {len(made)} pictures")


if __name__ == "__main__":
    main()
