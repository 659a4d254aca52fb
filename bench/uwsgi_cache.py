"""uWSGI's own shared cache, which is there only inside uWSGI: this file runs outside and inside.

Outside, `measure` starts a uWSGI for each size of value, with a cache of blocks
of just that size (the best case for it). Inside, zoocache, py-lmdb and the
floors are measured beside it, so that ratios come from one process.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import scaling  # noqa: E402
import speed  # noqa: E402
from peers import Lmdb, Peer, Zoo, ZooTagged, open_peers  # noqa: E402
from servers import Place  # noqa: E402

HOW = "pip install uwsgi (built from source: needs a C compiler and python3-dev)"
JOB = "ZOOBENCH_UWSGI_JOB"


class Uwsgi(Peer):
    name = "uWSGI cache"
    how = HOW

    def __init__(self, place: Place) -> None:
        import uwsgi

        self.get, self.set = uwsgi.cache_get, uwsgi.cache_update


def program() -> str | None:
    beside = Path(sys.executable).with_name("uwsgi")
    return str(beside) if beside.exists() else shutil.which("uwsgi")


def measure(place: Place, rounds: int, budget: float, scaling_rounds: int) -> dict[str, Any] | None:
    """Starts uWSGI for one size. Medians by measure, and its bytes for an item; None if missing."""
    found = program()
    if found is None:
        return None
    job = {
        "folder": str(place.folder),
        "segment": place.segment + "-uwsgi",
        "size": place.size,
        "rounds": rounds,
        "budget": budget,
        "scaling_rounds": scaling_rounds,
        "result": str(place.folder / "uwsgi.json"),
    }
    # Without a master, which would start a script that is over again.
    command = [
        found, "--single-interpreter",
        "--cache2", f"name=bench,items=2000,blocksize={place.size}",
        "--pyrun", str(HERE / "uwsgi_cache.py"),
    ]  # fmt: skip
    if sys.prefix != sys.base_prefix:
        command += ["--virtualenv", sys.prefix]
    done = subprocess.run(
        command,
        env={**os.environ, JOB: json.dumps(job)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    result = Path(str(job["result"]))
    if not result.exists():
        raise RuntimeError(f"uWSGI ended without a result:\n{(done.stdout + done.stderr)[-3000:]}")
    taken = json.loads(result.read_text())
    for_a_key = re.search(r"\(key: (\d+) bytes", done.stdout + done.stderr)
    taken["bytes of a key"] = int(for_a_key[1]) if for_a_key else None
    return taken


def inside(job: dict[str, Any]) -> None:
    place = Place(Path(job["folder"]), job["segment"], job["size"])
    peers = open_peers(place, (Uwsgi, Zoo, ZooTagged, Lmdb), {})
    taken: dict[str, Any] = speed.measure(peers, place, job["rounds"], job["budget"])
    for peer in peers:
        peer.close()
    if job["scaling_rounds"]:
        taken["scaling"] = scaling.measure(place, (Uwsgi, Zoo), {}, job["scaling_rounds"])
    unfinished = Path(job["result"] + ".new")
    unfinished.write_text(json.dumps(taken))
    unfinished.rename(job["result"])


if __name__ == "__main__" and JOB in os.environ:
    from django.conf import settings

    settings.configure(USE_TZ=True)
    inside(json.loads(os.environ[JOB]))
