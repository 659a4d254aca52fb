"""The test-suite on every supported Python and Django that is here: `make test-versions`."""

from __future__ import annotations

import os
from pathlib import Path

import nox

# What each Django supports, of what zoocache supports.
VERSIONS = {
    "4.2": ["3.10", "3.11", "3.12"],
    "5.2": ["3.10", "3.11", "3.12", "3.13"],
    "6.0": ["3.12", "3.13"],
    "6.1": ["3.12", "3.13"],
}

nox.options.error_on_missing_interpreters = False  # those that are not here are skipped
nox.options.default_venv_backend = "venv"

# pyenv's own commands start only the versions that `pyenv global` names: nox gets all of them.
pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
os.environ["PATH"] = os.pathsep.join(
    [*map(str, pyenv.glob("versions/3.*/bin")), os.environ["PATH"]]
)


@nox.session
@nox.parametrize(
    ("python", "django"),
    [(python, django) for django, pythons in VERSIONS.items() for python in pythons],
)
def tests(session: nox.Session, django: str) -> None:
    """Runs what is given behind `--`; by default all that has to do with Python or Django."""
    session.install("--quiet", "--editable", ".[test]", f"Django~={django}.0")
    session.run("python", "-c", "import django, sys; print(django.__version__, sys.version)")
    chosen = session.posargs or [
        "tests/unit",
        "tests/model",
        "tests/django",
        "--ignore=tests/unit/test_c_core.py",
    ]
    session.run("python", "-m", "pytest", "-q", "-n", "auto", *chosen)
