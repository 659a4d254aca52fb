"""Named points at which a test may stop a process, to force an interleaving."""

from __future__ import annotations

from collections.abc import Callable

_hook: Callable[[str], None] | None = None


def reach(name: str) -> None:
    if _hook is not None:
        _hook(name)


def install(hook: Callable[[str], None] | None) -> None:
    """Calls `hook` with the name of every point that is reached; None ends that."""
    global _hook
    _hook = hook
