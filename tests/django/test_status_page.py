"""The status page in the admin passes its checks, which are a project's of their own.

They run in processes of their own (status_project/): Django can be configured
once per process, and the other tests have settings without an admin.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent / "status_project"
HOW_TO = (
    "no browser to test the status page in: apt-get install chromium chromium-driver, and "
    "pip install selenium"
)


def manage(short_name: str, *command: str) -> str:
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "settings",
        "ZOOCACHE_NAME": short_name,
        "ZOOCACHE_SIZE": "2MiB",
        "PYTHONPATH": str(PROJECT),
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::ResourceWarning", "-m", "django", *command],
        cwd=PROJECT, env=env, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr


def test_the_page_tells_and_drops_what_it_says(short_name):
    assert "Ran 0 tests" not in manage(short_name, "test", "--pattern", "checks_pages.py")


def test_the_panel_of_the_toolbar_tells_what_the_cache_had(short_name):
    pytest.importorskip("debug_toolbar", reason='pip install "zoocache[debug]"')
    assert "Ran 5 tests" in manage(short_name, "test", "--pattern", "checks_panel.py")


def test_a_project_has_nothing_to_migrate(short_name):
    manage(short_name, "makemigrations", "zoocache", "--check", "--dry-run")


def test_the_page_lives_in_a_browser(short_name):
    there = shutil.which("chromium") and Path("/usr/bin/chromedriver").exists()
    if not there or importlib.util.find_spec("selenium") is None:
        if os.environ.get("ZOOCACHE_TEST_SERVICES") == "required":
            pytest.fail(HOW_TO)
        pytest.skip(HOW_TO)
    assert "Ran 3 tests" in manage(short_name, "test", "--pattern", "checks_browser.py")
