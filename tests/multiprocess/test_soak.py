"""The soak of `make soak`, for some seconds; and that it would notice a site that tells nobody."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import soak


def test_workers_killed_under_load(tmp_path: Path, evidence: Callable[..., None]) -> None:
    found = soak.soak(tmp_path, seconds=10, seed=1)
    assert found.problems() == []
    assert "| **stale** | **0** |" in soak.report(found, (0.0, 0.0, 0.0))
    figures = {what: found.sum(what) for what in ("reads", "hits", "writes", "lost")}
    evidence("soak", kills=found.kills, **figures)


def test_a_site_that_invalidates_nothing_would_be_noticed(tmp_path: Path) -> None:
    found = soak.soak(tmp_path, seconds=3, seed=2, SITE_MUTATION="deaf")
    assert any(problem.startswith("stale: ") for problem in found.problems())
