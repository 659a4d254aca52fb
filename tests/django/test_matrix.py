"""Every read against every write: prime, write, read again, compare with the database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from shop import stock
from shop.reads import CACHED, UNCACHED, cached, outcome, plain
from shop.writes import WRITES

READS = {**CACHED, **UNCACHED}


@pytest.mark.parametrize("name", WRITES)
def test_no_read_is_stale_after(
    name: str, db: Any, queries: Callable[..., Any], evidence: Callable[..., None]
) -> None:
    stock.fill()
    for read in READS.values():
        outcome(read, cached)
    WRITES[name]()
    stale, kept = [], 0
    for shape, read in READS.items():
        with queries() as captured:
            got = outcome(read, cached)
        kept += shape in CACHED and not len(captured)
        expected = outcome(read, plain)
        again = outcome(read, cached)
        if not got == again == expected:
            stale.append((shape, "expected", expected, "got", got, "and then", again))
    assert not stale, "\n".join(str(cell)[:2000] for cell in stale)
    if name == "nothing":
        assert kept == len(CACHED)
    evidence(f"{db.vendor}: {name}", cells=len(READS), kept=kept)
