"""Django's own test-suite of its cache framework passes with ZooCache.

Its cases are not in this repository: they come from the source distribution of
the Django that is installed, which is kept in pytest's cache directory. Without
one there and without a package index, the test is skipped; where
ZOOCACHE_TEST_SERVICES is `required`, it fails.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from zoocache.shm import unlink

CASES = Path(__file__).parent / "django_suite"
# Django 4.2 has 54 cases in BaseCacheTests, of which 52 are run, twice; and those of the
# middleware, the utilities and the sessions.
LEAST_RUN = 200


def test_djangos_own_cases(
    django_source: Path, segment_name: str, evidence: Callable[..., None]
) -> None:
    shutil.copy(CASES / "cache_cases.py", django_source / "cache" / "test_zoocache.py")
    shutil.copy(CASES / "session_cases.py", django_source / "sessions_tests" / "test_zoocache.py")
    number = segment_name.rsplit("-", 1)[1]
    own, shared = (f"{segment_name[:30]}-{number}-{which}" for which in ("own", "shared"))
    environment = {
        **os.environ,
        "PYTHONPATH": str(django_source),
        "ZOOCACHE_NAME": shared,
        "ZOOCACHE_SIZE": "4MiB",
        "ZOOCACHE_SUITE_SEGMENT": own,
    }
    labels = ["cache.test_zoocache", "sessions_tests.test_zoocache"]
    command = [sys.executable, "runtests.py", "--settings=test_sqlite", "--parallel=1", "-v2"]
    try:
        ran = subprocess.run(
            [*command, *labels],
            cwd=django_source, env=environment, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
    finally:
        for name in (own, shared):
            unlink(name)
    summary = re.search(r"Ran (\d+) tests in", ran.stderr)
    assert summary is not None, ran.stderr[-4000:]
    assert ran.returncode == 0, ran.stderr[ran.stderr.find("\n=====") :][:8000]
    run = int(summary[1])
    base = len(re.findall(r"^test_\w+ .*\.(?:Shared|Own)SegmentTests", ran.stderr, re.MULTILINE))
    skipped = re.search(r"skipped=(\d+)", ran.stderr)
    evidence("Django's own cases", cases=run, of_BaseCacheTests=base)
    assert skipped is None, ran.stderr
    assert run >= LEAST_RUN
    assert base >= 2 * 52
