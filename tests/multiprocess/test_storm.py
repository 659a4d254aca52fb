"""Promises 1 to 3 under kill -9: nothing stale, nothing torn, nobody stuck.

ZOOCACHE_STORM_SECONDS sets the length (45 by default), ZOOCACHE_STORM_SEED
repeats the seed that a failure prints.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = float(os.environ.get("ZOOCACHE_STORM_SECONDS", "45"))


def storm(name: str, seconds: float, misuse: str = "") -> subprocess.CompletedProcess[str]:
    seed = os.environ.get("ZOOCACHE_STORM_SEED") or secrets.token_hex(4)
    script = Path(__file__).with_name("storm.py")
    return subprocess.run(
        [sys.executable, str(script), name, str(seconds), seed, misuse],
        capture_output=True,
        text=True,
        timeout=seconds + 90,
    )


def test_storm(segment_name, evidence):
    done = storm(segment_name, SECONDS)
    assert done.returncode == 0, done.stderr
    totals = json.loads(done.stdout)
    evidence("storm of processes", **totals)
    # All of it really took place.
    assert all(totals[name] > 100 for name in totals if name != "stops"), totals
    assert totals["kills"] > 10 * SECONDS


@pytest.mark.parametrize(
    ("misuse", "complaint"),
    [
        ("late-stamp", "stale: q"),
        ("no-invalidate", "stale: q"),
        ("swap", "was served for"),
        ("tear", "torn: "),
        ("blind", "stale: q"),
    ],
)
def test_the_oracle_notices_misuse(segment_name, misuse, complaint):
    """The same storm must fail when the API is used wrongly: it can fail."""
    done = storm(segment_name, 20, misuse)
    assert done.returncode == 1, f"nobody noticed: {done.stdout}"
    assert complaint in done.stderr
