"""The test-suites that the installed Django has in its source distribution.

They are not in this repository: the distribution is downloaded, and kept in pytest's cache
directory. Without one there and without a package index, tests that need it are skipped;
where ZOOCACHE_TEST_SERVICES is `required`, they fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import django
import pytest


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
