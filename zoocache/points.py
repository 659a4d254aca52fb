"""Named points at which a test may stop a process, to force an interleaving."""

from __future__ import annotations

from collections.abc import Callable

hook: Callable[[str], None] | None = None
"""To be looked at only, where not even a call is to be spent on it."""


def reach(name: str) -> None:
    if hook is not None:
        hook(name)


def install(to_call: Callable[[str], None] | None) -> None:
    """Calls it with the name of every point that is reached; None ends that."""
    global hook
    hook = to_call
