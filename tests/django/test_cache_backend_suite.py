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
import tarfile
from collections.abc import Callable
from pathlib import Path

import django
import pytest

from zoocache.shm import unlink

CASES = Path(__file__).parent / "django_suite"
# Django 4.2 has 54 cases in BaseCacheTests, of which 52 are run, twice; and those of the
# middleware, the utilities and the sessions.
LEAST_RUN = 200


def _download(folder: Path) -> Path | str:
    """The source distribution of the installed Django in `folder`; or why there is none."""
    version = django.__version__
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--no-binary=django",
    ]
    command += ["--dest", str(folder / f"{os.getpid()}"), f"django=={version}"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        return "it took longer than 300 s"
    found = list((folder / f"{os.getpid()}").glob("*.tar.gz"))
    if ran.returncode or not found:
        return ran.stderr.strip()[-500:]
    target = folder / f"django-{version}.tar.gz"
    found[0].replace(target)  # at once: another run may be looking
    shutil.rmtree(folder / f"{os.getpid()}")
    return target


@pytest.fixture
def django_source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The folder `tests` of the installed Django's source, in a place of this test's own."""
    cache = getattr(request.config, "cache", None)
    folder = cache.mkdir("django-sdist") if cache is not None else tmp_path
    found: Path | str = folder / f"django-{django.__version__}.tar.gz"
    if not Path(found).exists():
        found = _download(folder)
    if isinstance(found, str):
        problem = f"the source of Django {django.__version__} could not be downloaded: {found}"
        if os.environ.get("ZOOCACHE_TEST_SERVICES") == "required":
            pytest.fail(problem)
        pytest.skip(f"{problem} (run this test once with a network; it is kept then)")
    with tarfile.open(found) as archive:
        members = [m for m in archive.getmembers() if "/tests/" in m.name]
        if sys.version_info >= (3, 12):
            archive.extractall(tmp_path, members, filter="data")
        else:
            archive.extractall(tmp_path, members)
    (tests,) = tmp_path.glob("[dD]jango-*/tests")
    return tests


def test_djangos_own_cases(
    django_source: Path, segment_name: str, evidence: Callable[..., None]
) -> None:
    shutil.copy(CASES / "cache_cases.py", django_source / "cache" / "test_zoocache.py")
    shutil.copy(CASES / "session_cases.py", django_source / "sessions_tests" / "test_zoocache.py")
    shutil.copy(CASES / "suite_settings.py", django_source / "suite_settings.py")
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
    command = [sys.executable, "runtests.py", "--settings=suite_settings", "--parallel=1", "-v2"]
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
