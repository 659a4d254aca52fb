"""The example site passes its own tests.

They run in a process of their own: Django can be configured once per process, and the other tests
have settings of their own.
"""

import os
import subprocess
import sys
import uuid
from pathlib import Path

SITE = Path(__file__).resolve().parents[2] / "examples" / "atlas"


def test_the_atlas_site_passes_its_own_tests(tmp_path):
    cache = f"atlas-test-{uuid.uuid4().hex[:12]}"
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "atlas.settings",
        "ATLAS_DATA": str(tmp_path),
        "ATLAS_CACHE": cache,
    }
    try:
        for command in (["makemigrations", "--check", "--dry-run"], ["test"]):
            done = subprocess.run(
                [sys.executable, "-W", "error", "manage.py", *command],
                cwd=SITE,
                env=env,
                capture_output=True,
                text=True,
                timeout=300,
            )
            assert done.returncode == 0, done.stdout + done.stderr
        assert "Ran 0 tests" not in done.stderr
    finally:
        for segment in Path("/dev/shm").glob(f"*{cache}*"):
            segment.unlink(missing_ok=True)
