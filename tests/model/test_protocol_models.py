"""The models of the core's protocols still hold, and each of their mutations still fails."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).resolve().parents[2] / "docs" / "design" / "models" / "check.py"


@pytest.mark.skipif(
    shutil.which("spin") is None or shutil.which("cc") is None,
    reason="The models are checked by Spin, which is not here: apt-get install spin gcc.",
)
def test_every_designed_variant_holds_and_every_mutation_fails() -> None:
    done = subprocess.run(
        [sys.executable, str(CHECK), "--quick"], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
