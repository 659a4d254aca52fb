"""docs/design/acceptance.md names only what exists."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "design" / "acceptance.md"
MODELS = ROOT / "docs" / "design" / "models" / "check.py"

RUN = ("ZOOCACHE_", "PYTEST_")
NODE = re.compile(r"`(\w+/test_\w+\.py::[^`]+)`")
SUITE = re.compile(r"suite `([^`]+)`")
MODEL = re.compile(r"model `([^`]+)`")


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{path.stem}_of_models", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def lines() -> list[str]:
    """The rows of the tables, without their heads."""
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    rules = {at for at, row in enumerate(rows) if row.startswith("| ---")}
    return [row for at, row in enumerate(rows) if not {at, at + 1} & rules]


def test_its_tests_exist() -> None:
    named = NODE.findall(PAGE.read_text())
    files = sorted({"tests/" + name.partition("::")[0] for name in named})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    # A run of its own: at its end it removes the segments that it takes for its own.
    env = {name: value for name, value in os.environ.items() if not name.startswith(RUN)}
    done = subprocess.run([*command, *files], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {name.removeprefix("tests/") for name in done.stdout.splitlines()}
    found |= {name.partition("[")[0] for name in found}
    assert [name for name in named if name not in found] == []


def test_its_suites_and_mutations_exist() -> None:
    text = PAGE.read_text()
    sources = "".join(path.read_text() for path in (ROOT / "tests" / "c").glob("test_*.c"))
    suites = set(re.findall(r'\{"([a-z0-9-]+)", *\w+', sources))
    assert [name for name in SUITE.findall(text) if name not in suites] == []
    check = load(MODELS)
    mutations = [run for run in check.parse(check.RUNS) if run.expected != "holds"]
    for name in MODEL.findall(text):
        model, *flags = name.split()
        assert any(run.model == model and {*flags} <= {*run.flags} for run in mutations), name


def test_every_line_names_something() -> None:
    assert len(lines()) > 150
    for line in lines():
        found = NODE.findall(line) or SUITE.findall(line) or MODEL.findall(line)
        assert found or re.search(r"\| sections? \d", line), line
    for heading, highest in (("## 5.", 40), ("## 6.", 31)):
        part = PAGE.read_text().partition(heading)[2].partition("\n## ")[0]
        assert re.findall(r"^\| (\d+) ", part, re.MULTILINE) == [
            str(number) for number in range(1, highest + 1)
        ]
