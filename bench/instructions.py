"""How many instructions the core runs for a hit of 100 bytes, counted by callgrind."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from servers import Place
from timing import key_bytes, value_of

from zoocache.shm import Cache, Segment
from zoocache.shm._core import ffi, lib

# The loop in C where the core has it, as there is no Python in between.
FUNCTION = "zoo_get_loop" if hasattr(lib, "zoo_get_loop") else "zoo_get"
HITS = 2_000
HOW = "apt-get install valgrind"


def measure(place: Place, missing: dict[str, str]) -> float | None:
    """Instructions of one hit, all that it calls included; None where they cannot be counted."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        missing["callgrind"] = f"to have it: {HOW}"
        return None
    totals = {}
    # The difference of two runs leaves out what is run once, such as binding names.
    for hits in (0, HITS):
        out = place.folder / f"callgrind-{hits}"
        subprocess.run(
            [
                valgrind, "--tool=callgrind", f"--toggle-collect={FUNCTION}",
                f"--callgrind-out-file={out}", sys.executable, __file__,
                f"{place.segment}-alone", str(hits),
            ],
            capture_output=True, check=True,
        )  # fmt: skip
        totals[hits] = total(out)
    counted = totals[HITS] - totals[0]
    if counted <= 0:
        missing["callgrind"] = f"it saw no {FUNCTION} in the extension"
        return None
    return counted / HITS


def total(out: Path) -> int:
    found = re.search(r"^(?:totals|summary): (\d+)", out.read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


def run(segment: str, hits: int) -> None:
    cache = Cache(Segment(segment, 4 << 20))
    key = key_bytes(0)
    cache.set(key, value_of(100), tags=["Product:42"])
    assert cache.get(key)
    count = 10 + hits
    if FUNCTION == "zoo_get":
        for _ in range(count):
            cache.get(key)
    else:
        value = ffi.new("char[]", 100)
        handle = cache.segment.handle
        assert lib.zoo_get_loop(handle, key, len(key), 1, value, 100, count) == count


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]))
