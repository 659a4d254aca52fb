"""Histories of concurrent operations, some of them killed within, are explained: see histories.py.

ZOOCACHE_HISTORIES_SECONDS sets the length (16 by default), ZOOCACHE_HISTORIES_SEED repeats the
seed that a failure prints.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = float(os.environ.get("ZOOCACHE_HISTORIES_SECONDS", "16"))


def record(name: str, seconds: float, misuse: str = "") -> subprocess.CompletedProcess[str]:
    seed = os.environ.get("ZOOCACHE_HISTORIES_SEED") or secrets.token_hex(4)
    script = Path(__file__).with_name("histories.py")
    return subprocess.run(
        [sys.executable, str(script), name, str(seconds), seed, misuse],
        capture_output=True,
        text=True,
        timeout=seconds + 90,
    )


def test_histories_are_explained(segment_name, evidence):
    done = record(segment_name, SECONDS)
    assert done.returncode == 0, done.stderr
    totals = json.loads(done.stdout)
    evidence("histories of a key", **totals)
    # All of it really took place.
    assert all(totals.values()), totals


@pytest.mark.parametrize(
    "misuse", ["late-stamp", "no-invalidate", "no-delete", "swap", "lost-update"]
)
def test_a_lie_is_noticed(segment_name, misuse):
    """The same must not be explained when what was done is not what was written down."""
    done = record(segment_name, 20, misuse)
    assert done.returncode == 1, f"nobody noticed: {done.stdout}"
    assert "no order explains" in done.stderr or "stale, in a segment" in done.stderr
