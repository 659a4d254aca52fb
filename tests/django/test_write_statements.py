"""No write costs a statement more than it does without zoocache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shop.reads import CACHED, cached, outcome
from shop.statements import of_writes

import zoocache

SERVER = ("HOST", "PORT", "USER", "PASSWORD")
SHAPES = ["all", "by category", "get", "prefetch many", "page's count", "child", "count"]


def _prime() -> None:
    """There is something for each write to invalidate."""
    for shape in SHAPES:
        outcome(CACHED[shape], cached)


def _of_django_alone(connection: Any) -> dict[str, list[str]]:
    """By a process that has never heard of zoocache, in the same database."""
    database = {key: connection.settings_dict[key] for key in ("ENGINE", "NAME", *SERVER)}
    path = [str(Path(__file__).parent), str(Path(zoocache.__file__).parents[1])]
    done = subprocess.run(
        [sys.executable, "-m", "shop.statements", json.dumps(database)],
        cwd=path[0],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_no_write_takes_a_statement_more(db: Any, evidence: Callable[..., None]) -> None:
    found = of_writes(db, prepare=_prime)
    db.close()
    expected = _of_django_alone(db)
    assert found.keys() == expected.keys()
    assert {name: sent for name, sent in found.items() if sent != expected[name]} == {}
    statements = sum(map(len, expected.values()))
    assert statements > 2 * len(expected)
    evidence(f"writes on {db.vendor} as without zoocache", writes=len(found), statements=statements)
