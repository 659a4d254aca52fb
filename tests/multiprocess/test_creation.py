"""Concurrent creation makes one segment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_eight_creators_make_one_segment(segment_name, evidence):
    script = Path(__file__).with_name("creators.py")
    # A process that fails leaves the others waiting for it: the time-out ends them.
    done = subprocess.run(
        [sys.executable, str(script), segment_name, "40"],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stdout == "ok 40\n", done.stderr
    evidence("concurrent creation", rounds_of_8_processes=40)
