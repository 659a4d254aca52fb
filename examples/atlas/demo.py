"""Runs the atlas site under gunicorn, uses it as visitors would and judges every answer.

python demo.py            about 20 seconds of load, then a report; exit code 0 if all was well
python demo.py --serve    keeps the site up on http://127.0.0.1:8000/ to click through
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import server
from judge import Judge
from load import Client, World, uncached
from report import Run, format_report


def main() -> int:
    options = parse_arguments()
    # A terminal that closes, or a plain kill, must clean up as Ctrl-C does.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("Stopped by a signal."))
    try:
        return serve(options) if options.serve else demo(options)
    except KeyboardInterrupt:
        print("\nStopped.")
        return 130
    except server.ServerError as error:
        print(f"\nFailed: {error}", file=sys.stderr)
        return 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=positive, default=20, help="of load (20)")
    parser.add_argument("--workers", type=positive, default=4, help="processes of gunicorn (4)")
    parser.add_argument("--clients", type=positive, default=4, help="visitors at a time (4)")
    parser.add_argument(
        "--pause", type=float, default=8, help="ms between the requests of a visitor, average (8)"
    )
    parser.add_argument("--seed", type=int, help="repeat the choices of an earlier run")
    parser.add_argument("--keep", action="store_true", help="keep the database and gunicorn's log")
    parser.add_argument("--serve", action="store_true", help="only keep the site up")
    parser.add_argument("--port", type=positive, default=8000, help="for --serve (8000)")
    return parser.parse_args()


def positive(text: str) -> int:
    if (number := int(text)) > 0:
        return number
    raise argparse.ArgumentTypeError(f"{text} is not above zero")


def serve(options: argparse.Namespace) -> int:
    """Keep the site up until Ctrl-C. Its database stays, so changes are there the next time."""
    data = Path(os.environ.get("ATLAS_DATA", server.SITE / "var"))
    data.mkdir(parents=True, exist_ok=True)
    env = server.environment(data, os.environ.get("ATLAS_CACHE", "atlas"))
    prepare(env, "--if-empty")
    print(f"\nThe atlas: http://127.0.0.1:{options.port}/ (Ctrl-C ends it)")
    print("For /admin/, first make a user: python examples/atlas/manage.py createsuperuser\n")
    address = f"127.0.0.1:{options.port}"
    command = [sys.executable, "-m", "gunicorn", "atlas.wsgi", "--bind", address]
    site = subprocess.Popen([*command, "--workers", str(options.workers)], cwd=server.SITE, env=env)
    try:
        return site.wait()
    finally:
        site.terminate()
        site.wait()


def demo(options: argparse.Namespace) -> int:
    """Prepare a site of its own, put load on it, report; return the exit code."""
    seed = options.seed if options.seed is not None else secrets.randbelow(10**6)
    cache = f"atlas-demo-{secrets.token_hex(6)}"
    data = Path(tempfile.mkdtemp(prefix="atlas-demo-"))
    log = data / "gunicorn.log"
    with ExitStack() as cleanup:
        cleanup.callback(put_away, data, options.keep)
        cleanup.callback(server.remove_cache, cache)
        print("Preparing a site of its own for this run: a new database and a new shared cache.")
        env = server.environment(data, cache)
        prepare(env)
        world = World(data / "atlas.sqlite3")
        try:
            with server.Server(env, options.workers, log) as site:
                run = put_load_on(site, world, options, seed)
        except Exception:
            show_end_of(log)
            raise
        print(f"\n{format_report(run)}\n")
        failures = run.failures()
        if failures:
            if run.errors:
                show_end_of(log)
            print(f"Failed: {' '.join(failures)} (Repeat its choices with --seed {seed}.)")
            return 1
        print("Passed: every read showed what had been written before it, in whichever worker.")
        return 0


def prepare(env: dict[str, str], *load_options: str) -> None:
    print("  Creating the tables.", flush=True)
    server.manage(env, "migrate", "--verbosity", "0")
    print("  Loading the places.", flush=True)
    server.manage(env, "load_places", *load_options)


def put_load_on(site: server.Server, world: World, options: argparse.Namespace, seed: int) -> Run:
    """Let the clients loose for the given time and return what came of it."""
    workers = site.workers()
    print(f"  gunicorn answers on 127.0.0.1:{site.port}, with {len(workers)} workers.", flush=True)
    rng = random.Random(seed)
    site.warm_up([uncached(visit.path) for visit in world.one_of_each(rng)])
    judge = Judge(world.cities)
    stop = threading.Event()
    clients = [
        Client(site.port, world, judge, stop, rng.randrange(2**32), options.pause / 1000)
        for _ in range(options.clients)
    ]
    before = Counter(site.counters())
    print(f"\n{options.clients} clients read and write for {options.seconds} s (seed {seed}).")
    started = time.monotonic()
    for client in clients:
        client.start()
    try:
        show_progress(clients, judge, started, options.seconds)
    finally:
        stop.set()
        for client in clients:
            client.join()
    seconds = time.monotonic() - started
    counters = Counter(site.counters())
    counters.subtract(before)
    return Run(seconds, workers, clients, judge, counters)


def show_progress(clients: list[Client], judge: Judge, started: float, seconds: int) -> None:
    """Tell how it goes until the time is over: in one line on a terminal, else every 5 s."""
    live = sys.stdout.isatty()
    pause = 0.25 if live else 5.0
    while (elapsed := time.monotonic() - started) < seconds and any(c.is_alive() for c in clients):
        time.sleep(min(pause, seconds - elapsed))
        elapsed = min(time.monotonic() - started, seconds)
        reads, writes, errors = (
            sum(counts) for counts in zip(*(client.progress() for client in clients), strict=True)
        )
        line = (
            f"  [{'#' * round(elapsed / seconds * 20):<20}] {elapsed:3.0f} s  {reads:7,} reads"
            f"  {writes:5,} writes  {len(judge.stale):3} stale  {errors:3} errors"
        )
        print(f"\r{line}" if live else line, end="" if live else "\n", flush=True)
    if live:
        print()


def show_end_of(log: Path) -> None:
    if log.exists():
        print("\nThe end of gunicorn's log:", file=sys.stderr)
        for line in log.read_text(errors="replace").splitlines()[-40:]:
            print(f"  {line}", file=sys.stderr)


def put_away(data: Path, keep: bool) -> None:
    if keep:
        print(f"Kept: {data}")
    else:
        shutil.rmtree(data, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
