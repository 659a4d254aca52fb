"""TestCase: the transactions that it wraps around tests, and rolls back.

A test behaves as if they were not there, or nothing would be cached in it. What
it stores is for that test alone: its keys carry a nonce of each such block.
"""

from __future__ import annotations

import uuid
from typing import Any

_NONCE = "_zoocache_nonce"


def only_test_blocks(connection: Any) -> bool:
    """Are all open atomic blocks TestCase's own?"""
    blocks = connection.atomic_blocks
    return bool(blocks) and all(map(_is_test_block, blocks))


def namespace_of(connection: Any) -> bytes:
    """What keeps a test's entries apart, for keys; empty outside of tests."""
    return b"".join(_nonce(block) for block in connection.atomic_blocks if _is_test_block(block))


def _is_test_block(block: Any) -> bool:
    return getattr(block, "_from_testcase", False)


def _nonce(block: Any) -> bytes:
    nonce: bytes = block.__dict__.setdefault(_NONCE, uuid.uuid4().bytes)
    return nonce
