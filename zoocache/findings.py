"""What the doctor found, and how bad it is."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

_SHOWN = 8  # of a list


class Level(Enum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"
    """Good to know."""
    WARNING = "warning"
    """It works, but not as well as it could, or not for long."""
    PROBLEM = "problem"
    """It does not work as it should."""


class Finding(NamedTuple):
    """One thing that was looked at."""

    level: Level
    what: str
    todo: str = ""
    """What to do about it; empty where nothing need be done."""


def ok(what: str) -> Finding:
    return Finding(Level.OK, what)


def note(what: str, todo: str = "") -> Finding:
    return Finding(Level.NOTE, what, todo)


def warning(what: str, todo: str) -> Finding:
    return Finding(Level.WARNING, what, todo)


def problem(what: str, todo: str) -> Finding:
    return Finding(Level.PROBLEM, what, todo)


def listed(some: Sequence[object]) -> str:
    """The first of them, in one line."""
    shown = ", ".join(map(str, some[:_SHOWN]))
    return shown if len(some) <= _SHOWN else f"{shown} and {len(some) - _SHOWN} more"
