"""Sub-interpreters: those that share the GIL may use zoocache, others are told what to do."""

from __future__ import annotations

import subprocess
import sys

import pytest

from zoocache.shm import Cache

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="sub-interpreters with a GIL of their own came with 3.12"
)

# Ends without destroying what it made: after some modules of its own library (asyncio,
# ssl), CPython 3.12 aborts at that.
SCRIPT = """
import os, sys
code = '''
try:
    from zoocache.shm import Cache, Segment
    cache = Cache(Segment(%r))
    print(cache.get("key"), cache.incr("number"), flush=True)
except BaseException as error:
    print(f"{type(error).__name__}: {error}", flush=True)
''' % sys.argv[1]
own_gil = sys.argv[2] == "own"
for _ in range(2):
    try:
        import _interpreters
        made = _interpreters.create("isolated" if own_gil else "legacy")
        _interpreters.run_string(made, code)
    except ImportError:
        import _xxsubinterpreters
        made = _xxsubinterpreters.create(isolated=own_gil)
        _xxsubinterpreters.run_string(made, code)
if sys.argv[2] == "shared":
    from zoocache.shm import Cache, Segment
    print(Cache(Segment(sys.argv[1])).get("number"), flush=True)
os._exit(0)
"""


def run(cache: Cache, gil: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, cache.segment.name, gil],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_they_may_share_the_gil(cache: Cache) -> None:
    cache.set("key", b"v")
    cache.set("number", b"0")
    assert run(cache, "shared") == ["b'v' 1", "b'v' 2", "b'2'"]
    assert cache.get("number") == b"2"


def test_one_with_a_gil_of_its_own_is_told_what_to_do(cache: Cache) -> None:
    told = run(cache, "own")
    assert len(told) == 2
    for line in told:
        assert line.startswith("ImportError: zoocache cannot be used in a sub-interpreter with")
        assert line.endswith("Use processes, or sub-interpreters that share the GIL.")
