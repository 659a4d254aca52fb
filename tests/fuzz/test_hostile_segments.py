"""Hostile segments: fuzzed for some seconds where clang is, and what was once found, always.

ZOOCACHE_FUZZ_SECONDS sets the length of each (8 by default); `make fuzz` runs longer.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SECONDS = int(os.environ.get("ZOOCACHE_FUZZ_SECONDS", "8"))
TARGETS = ["fuzz_attach", "fuzz_segment"]


def make(goal: str, out: Path, name: str, **variables: object) -> str:
    done = subprocess.run(
        ["make", "-C", HERE, goal, f"OUT={out}", *(f"{k}={v}" for k, v in variables.items())],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=SECONDS + 240,
        env={**os.environ, "ZOO_FUZZ_NAME": name},
    )
    found = [(path.name, path.read_bytes().hex()) for path in out.glob("*.found/*")]
    assert done.returncode == 0, f"{done.stdout[-8000:]}\nthe inputs: {found}"
    return done.stdout


def require_libfuzzer(folder: Path) -> None:
    if shutil.which("clang") is None:
        pytest.skip("clang is not here, so nothing is fuzzed: apt-get install clang")
    (folder / "empty.c").write_text(
        "int LLVMFuzzerTestOneInput(const char *d, long n) { return d && n ? 0 : 0; }"
    )
    command = ["clang", "-fsanitize=fuzzer,address", "empty.c", "-o", "empty"]
    if subprocess.run(command, cwd=folder, capture_output=True).returncode != 0:
        pytest.skip(
            "clang is here without libFuzzer, so nothing is fuzzed: apt-get install "
            "libclang-rt-dev (with the version of clang in its name, like libclang-rt-14-dev)"
        )


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_hostile_breaks_the_core(target, tmp_path, segment_name, evidence):
    require_libfuzzer(tmp_path)
    said = make(f"run-{target}", tmp_path, segment_name, SECONDS=SECONDS)
    figures = dict(re.findall(r"stat::(\w+):\s+(\d+)", said))
    runs = int(figures["number_of_executed_units"])
    covered = re.findall(r"cov: (\d+)", said)
    evidence(target, inputs=runs, edges_covered=int(covered[-1]))
    assert runs > 100 * SECONDS, said[-3000:]


@pytest.mark.parametrize("target", TARGETS)
def test_what_was_found_once_stays_away(target, tmp_path, segment_name):
    kept = list((HERE / "corpus" / target).iterdir())
    said = make(f"replay-{target}", tmp_path, segment_name)
    assert f"{len(kept)} inputs" in said
