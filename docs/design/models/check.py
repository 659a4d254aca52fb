#!/usr/bin/env python3
"""Checks the models of the core's protocols with Spin; exits 1 on any surprise.

Each line of RUNS is a model, its flags, and what must come of it: "holds", or
for a mutation the kind of error that must be found. A run that does not finish
within its bounds of time, memory or depth is a surprise, too.

    check.py            all of them, about five minutes on two cores
    check.py --quick    those that take a second or two each
    check.py WORD...    those whose line has all the words: check.py flights DEATH
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
MEMORY_MB = 4000
TIMEOUT_S = 300
DEPTH = 200_000  # steps of one path; a longer one is reported as unfinished

# What follows a "-" takes too long for --quick. "stale" and "broken" are failed
# assertions (a value that must not be served; an invariant), "stuck" is an
# invalid end state: somebody waits for ever.
RUNS = """
flights    | -DNP=2                                               | holds
flights    |                                                      | holds
flights    | -DFAIL                                               | holds
flights    | -DFAIL -DNG=2                                        | holds -
flights    | -DUNST                                               | holds
flights    | -DINV=1                                              | holds
flights    | -DINV=2 -DNP=2 -DNG=2                                | holds -
flights    | -DINV=1 -DUNST -DFAIL                                | holds -
flights    | -DNK=1                                               | holds
flights    | -DNK=1 -DINV=1 -DFAIL                                | holds -
flights    | -DDEATH                                              | holds
flights    | -DDEATH -DFAIL -DUNST                                | holds
flights    | -DDEATH -DREUSE -DNP=2 -DNG=2                        | holds
flights    | -DDEATH -DREUSE                                      | holds -
flights    | -DLATE                                               | holds
flights    | -DLATE -DDEATH                                       | holds -
flights    | -DLATE -DINV=1 -DNP=2 -DNG=2                         | holds -
flights    | -DNEST -DNP=2                                        | holds
flights    | -DNEST                                               | holds
flights    | -DNEST -DNK=1                                        | holds
flights    | -DNEST -DDEATH                                       | holds -
flights    | -DNEST -DINV=1                                       | holds -
flights    | -DINV=1 -DHANDOVER                                   | stale
flights    | -DNEST -DNP=2 -DHOLDERWAITS                          | stuck
flights    | -DDEATH -DNOOVERTAKE                                 | stuck
flights    | -DDEATH -DREUSE -DNOSEQ                              | stuck
flights    | -DLATE -DBLINDREL                                    | broken
flights    | -DLATE -DBLINDTAKE                                   | broken
flights    | -DDEATH -DBLINDTAKE                                  | broken
flights    | -DNOREGET                                            | broken
flights    | -DFAIL -DNOTOMB                                      | broken

intents    |                                                      | holds
intents    | -DNF=2 -DNG=3                                        | holds -
intents    | -DNF=2 -DPW=2                                        | holds -
intents    | -DRT=0 -DNOLOCAL                                     | holds
intents    | -DRDEATH -DRR=2 -DNOLOCAL -DNG=1                     | holds
intents    | -DNR=2 -DRDEATH -DNOLOCAL -DNG=1                     | holds -
intents    | -DLANES -DNC=2 -DNR=2                                | holds
intents    | -DLANES -DNC=2 -DNR=2 -DRDEATH                       | holds -
intents    | -DLANES -DNC=2 -DNL=2                                | holds -
intents    | -DLANES -DNC=2 -DNR=2 -DREUSE                        | holds
intents    | -DLANES -DNC=2 -DNR=2 -DRR=3 -DRR4=1                 | holds -
intents    | -DFINAL -DNC=2 -DRDEATH -DRR=2 -DNOLOCAL             | holds
intents    | -DFINAL -DNC=2 -DNR=2 -DRDEATH -DNOLOCAL             | holds -
intents    | -DFINAL -DNC=2 -DNL=2 -DRDEATH -DNOLOCAL             | holds -
intents    | -DFINAL -DNC=2 -DREUSE -DRDEATH -DNOLOCAL            | holds
intents    | -DCLOCKFIRST -DNOLOCAL                               | stale
intents    | -DPERTAG -DNOLOCAL                                   | stale
intents    | -DCLEARFIRST -DNOLOCAL                               | stale
intents    | -DNOQUAR -DNOLOCAL                                   | stale
intents    | -DONEBUMP -DNOLOCAL                                  | stale
intents    | -DUNKNOWNCLEAR -DNOLOCAL                             | stale
intents    | -DUNKNOWNBUMP -DNOLOCAL                              | stale
intents    | -DNOEV                                               | stale
intents    | -DEVFIRST                                            | stale
intents    | -DLANES -DNC=2 -DNR=2 -DNOTAKEOVER                   | broken
intents    | -DLANES -DNC=2 -DFREEFIRST                           | broken
intents    | -DLANES -DNC=2 -DNR=2 -DRR=3 -DRR4=1 -DNOSERIAL      | broken -
intents    | -DFINAL -DNC=2 -DREUSE -DNOLOCAL -DNOGEN             | broken

retirement | -DINV=1 -DLOCAL                                      | holds
retirement | -DINV=1 -DNF=2 -DNG=3 -DLOCAL -DONESTEP              | holds -
retirement | -DINV=2 -DNF=2 -DNG=1 -DONESTEP                      | holds -
retirement | -DINV=1 -DNG=1 -DRDEATH                              | holds -
retirement | -DINV=1 -DNF=2 -DNG=1 -DRDEATH                       | holds -
retirement | -DINV=1 -DNG=1 -DRDEATH -DNOSEGCHECK                 | holds -
retirement | -DCOM -DNG=1 -DONESTEP                               | holds -
retirement | -DCOM -DNG=1 -DONESTEP -DRDEATH                      | holds -
retirement | -DCOM -DNG=1 -DONESTEP -DROOTATEND                   | holds -
retirement | -DCOM -DNG=1 -DONESTEP -DPATIENT                     | holds
retirement | -DINV=1 -DLOCAL -DONESTEP -DNORETIREEVENT            | stale
retirement | -DINV=1 -DNG=1 -DONESTEP -DNORECHECK                 | stale
retirement | -DINV=1 -DLOCAL -DONESTEP -DNOGAPEVENT               | stale
retirement | -DINV=1 -DNG=1 -DONESTEP -DSTAMPONES                 | stale
retirement | -DINV=1 -DNG=1 -DONESTEP -DCLOCKBEFOREROOT           | stale
retirement | -DINV=1 -DNG=1 -DONESTEP -DNOSEGCHECK -DCLOCKLOW     | stale
retirement | -DINV=1 -DNG=1 -DNOSEGCHECK -DRDEATH -DEXCHANGE      | stale -
retirement | -DINV=1 -DNG=1 -DONESTEP -DEARLY                     | stale
retirement | -DCOM -DNG=1 -DONESTEP -DOLDONLY                     | stale -
retirement | -DCOM -DNG=1 -DONESTEP -DNOWAIT                      | stale -
retirement | -DCOM -DNG=1 -DONESTEP -DSTAMPINWINDOW               | stale -
retirement | -DCOM -DNG=1 -DONESTEP -DSHORTWINDOW                 | stale -
retirement | -DCOM -DNG=1 -DONESTEP -DWAITHOLDING -DPATIENT       | stuck

insertion  | -DNP=2 -DNS=2 -DSAMEFP                               | holds -
insertion  | -DNP=2 -DNS=2                                        | holds -
insertion  | -DNP=2 -DNS=2 -DSAMEFP -DLAPNEW                      | holds -
insertion  | -DNP=3 -DNS=2 -DSAMEFP -DO1=1 -DO2=1 -DO3=2          | holds -
insertion  | -DNP=3 -DNS=2 -DSAMEFP -DO1=0 -DO2=0 -DO3=3          | holds -
insertion  | -DNP=3 -DNS=2 -DSAMEFP -DO1=1 -DO2=4 -DO3=2          | holds -
insertion  | -DNP=2 -DNS=3 -DSAMEFP -DO1=1 -DO2=1                 | holds -
insertion  | -DNP=2 -DNS=3 -DSAMEFP -DO1=0 -DO2=4                 | holds
insertion  | -DNP=2 -DNS=3 -DSAMEFP -DO1=0 -DO2=2                 | holds
insertion  | -DNP=2 -DNS=3 -DSAMEFP -DO1=0 -DO2=3                 | holds
insertion  | -DNP=2 -DNS=3 -DSAMEFP -DO1=0 -DO2=1 -DK2=1          | holds -
insertion  | -DNP=2 -DNS=2 -DSAMEFP -DCRASH -DO1=0 -DO2=0         | holds -
insertion  | -DNP=2 -DNS=2 -DSAMEFP -DCRASH -DO1=0 -DO2=1         | holds -
insertion  | -DNP=2 -DNS=2 -DSAMEFP -DCRASH -DO1=1 -DO2=1         | holds -
insertion  | -DNP=2 -DNS=2 -DSAMEFP -DCRASH -DO1=1 -DO2=2         | holds
insertion  | -DNP=2 -DNS=2 -DSAMEFP -DCRASH -DO1=0 -DO2=3         | holds
insertion  | -DNP=2 -DNS=2 -DSAMEFP -DCRASH -DO1=0 -DO2=4         | holds
insertion  | -DNP=2 -DNS=2 -DSAMEFP -DCRASH -DO1=0 -DO2=1 -DK2=1  | holds -
insertion  | -DNP=2 -DNS=2 -DSAMEFP -DNOKILL -DHARM -DO1=0 -DO2=3 | broken
insertion  | -DNP=2 -DNS=2 -DSAMEFP -DGHOSTSHORT -DO1=0 -DO2=0    | broken
insertion  | -DNP=3 -DNS=2 -DSAMEFP -DSAMETENT -DO1=0 -DO2=0 -DO3=0 | broken
insertion  | -DNP=2 -DNS=2 -DSAMEFP -DNOSCAN                      | broken
insertion  | -DNP=2 -DNS=2 -DSAMEFP -DCRASH -DLIM=99              | broken

tags       | -DINV1                                               | holds
tags       | -DINV2                                               | holds
tags       | -DINV2 -DNW=2                                        | holds
tags       | -DT3 -DNF=1 -DNG=2                                   | holds -
tags       | -DNF=1 -DNG=2                                        | holds -
tags       | -DINV2 -DFLOORFIRST                                  | stale
tags       | -DINV2 -DNOFOLD                                      | stale
tags       | -DINV2 -DEMAX                                        | stale
tags       | -DINV2 -DEFIRST                                      | stale
tags       | -DINV1 -DLOCALBLIND                                  | stale
tags       | -DINV1 -DNOTICK                                      | stale
tags       | -DINV1 -DPHYSSTAMP                                   | stale
tags       | -DINV1 -DSTAMPGT                                     | broken
"""

# The assertions that say "a value that must not be served"; all others are "broken".
STALE = re.compile(r"assertion violated \(?\(?(g|g\[|lg|v|lvv)\b")


@dataclass(frozen=True)
class Run:
    model: str
    flags: tuple[str, ...]
    expected: str
    quick: bool


@dataclass(frozen=True)
class Result:
    outcome: str
    states: int
    seconds: float
    detail: str = ""


def parse(table: str) -> list[Run]:
    runs = []
    for line in table.strip().splitlines():
        if line.strip():
            model, flags, expected = (part.strip() for part in line.split("|"))
            kind, _, slow = expected.partition(" ")
            runs.append(Run(model, tuple(flags.split()), kind, not slow))
    return runs


def judge(out: str) -> tuple[str, str]:
    """What pan says, and the line that says why."""
    error = re.search(r"^pan:1: (.*?)( \(at depth \d+\))?$", out, re.M)
    if error:
        why = error.group(1)
        if why.startswith("invalid end state"):
            return "stuck", why
        if STALE.match(why):
            return "stale", why
        return ("broken" if why.startswith("assertion") else "unfinished"), why
    complete = re.search(r"errors: 0$", out, re.M)
    cut_short = re.search(r"Search not completed|max search depth too small|hint:.*-DMEMLIM", out)
    return ("holds", "") if complete and not cut_short else ("unfinished", out[-300:])


def check(run: Run) -> Result:
    start = time.monotonic()
    optimise = "-O0" if run.quick else "-O2"  # to optimise takes seconds
    with tempfile.TemporaryDirectory(prefix="zoocache-model-") as where:
        for command in (
            ["spin", "-a", *run.flags, str(HERE / f"{run.model}.pml")],
            ["cc", optimise, "-w", "-DSAFETY", "-DCOLLAPSE", f"-DMEMLIM={MEMORY_MB}", "pan.c"],
            ["./a.out", f"-m{DEPTH}"],
        ):
            try:
                done = subprocess.run(
                    command,
                    cwd=where,
                    timeout=TIMEOUT_S,
                    text=True,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                )
            except subprocess.TimeoutExpired:
                return Result("unfinished", 0, time.monotonic() - start, f"over {TIMEOUT_S} s")
            if command[0] != "./a.out" and done.returncode != 0:
                return Result("unbuilt", 0, time.monotonic() - start, done.stdout[-600:])
    outcome, detail = judge(done.stdout)
    states = re.search(r"^\s*([\d.e+]+) states, stored", done.stdout, re.M)
    n = int(float(states.group(1))) if states else 0
    return Result(outcome, n, time.monotonic() - start, detail)


def how_many_at_once() -> int:
    """As many as there are cores, and memory for their bound."""
    memory_mb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    return max(1, min(len(os.sched_getaffinity(0)), memory_mb // MEMORY_MB))


def main() -> int:
    parser = argparse.ArgumentParser(description="Checks the protocol models with Spin.")
    parser.add_argument("words", nargs="*", help="run only the lines that have all these words")
    parser.add_argument("--quick", action="store_true", help="leave out the long runs")
    args = parser.parse_args()
    for tool, package in (("spin", "spin"), ("cc", "gcc")):
        if shutil.which(tool) is None:
            print(f"{tool} is missing: apt-get install {package}", file=sys.stderr)
            return 2

    runs = [
        run
        for run in parse(RUNS)
        if (run.quick or not args.quick)
        and all(word in f"{run.model} {' '.join(run.flags)} {run.expected}" for word in args.words)
    ]
    if not runs:
        print("no run has these words", file=sys.stderr)
        return 2
    surprises = 0
    start = time.monotonic()
    print(f"{'model':<11}{'variant':<57}{'states':>11}  {'expected':<9}{'result':<11}seconds")
    with ThreadPoolExecutor(how_many_at_once()) as pool:
        for run, result in zip(runs, pool.map(check, runs), strict=True):
            wrong = result.outcome != run.expected
            surprises += wrong
            print(
                f"{run.model:<11}{' '.join(run.flags):<57}{result.states:>11,}  "
                f"{run.expected:<9}{result.outcome:<11}{result.seconds:7.1f}"
                + (f"  <-- {result.detail}" if wrong else ""),
                flush=True,
            )
    took = time.monotonic() - start
    print(f"{len(runs)} runs in {took:.0f} s: {surprises or 'no'} surprise{'s' * (surprises != 1)}")
    return 1 if surprises else 0


if __name__ == "__main__":
    sys.exit(main())
