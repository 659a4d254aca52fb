"""Directed generators: each finds one kind of mistake in the rules of dependencies and writes.

That they find it is shown by the mistake itself: MUTANTS are wrong rules, one or more for each
direction, and a run of the direction under the wrong rule must come upon a stale row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fuzz_directions import DIRECTIONS, Direction
from fuzz_engine import EXAMPLES, SEED, Fuzz, Stale
from fuzz_mutants import MUTANTS
from fuzz_reads import row
from hypothesis import strategies as st

# Of the examples of the random fuzzer.
SHARES = {"sqlite": 0.1, "postgresql": 0.05, "mysql": 0.05}


def _play(fuzz: Fuzz, name: str, examples: int, **how: Any) -> None:
    direction: Direction = DIRECTIONS[name]
    # A row by its key, too: most writes of others leave that alone.
    reads = st.tuples(*[direction.reads] * 5, row).map(list)
    writes = st.tuples(*[direction.writes] * 3)
    fuzz.play(reads, writes, examples, more=direction.more, seed_of=name, **how)


def test_directed_reads_and_writes(db: Any, evidence: Callable[..., None]) -> None:
    fuzz, examples = Fuzz(elsewhere=True), max(1, round(EXAMPLES * SHARES[db.vendor]))
    try:
        for name in DIRECTIONS:
            before = fuzz.figures.copy()
            _play(fuzz, name, examples)
            print(name, dict(fuzz.figures - before))
    finally:
        fuzz.close()
    assert fuzz.figures["changed"] > fuzz.figures["reads_after_a_write"] // 20
    assert fuzz.figures["kept"] > fuzz.figures["reads_after_a_write"] // 20, "nothing was kept"
    evidence(
        f"directed fuzz on {db.vendor}, seed {SEED}", directions=len(DIRECTIONS), **fuzz.figures
    )


@pytest.mark.parametrize(("mutant", "direction"), [
    (mutant, direction) for direction, mutants in MUTANTS.items() for mutant in mutants
])  # fmt: skip
def test_a_wrong_rule_is_found(
    mutant: str, direction: str, sqlite: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    MUTANTS[direction][mutant](monkeypatch)
    fuzz = Fuzz(elsewhere=True)
    try:
        with pytest.raises(Stale):
            _play(fuzz, direction, 500, shrink=False)
    finally:
        fuzz.close()


def test_every_direction_has_a_mutant() -> None:
    assert MUTANTS.keys() == DIRECTIONS.keys()
    assert all(MUTANTS.values())
