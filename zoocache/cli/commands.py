"""All commands: importing this puts them into the group."""

from zoocache.cli import asking, changing, examining, watching

__all__ = ["asking", "changing", "examining", "watching"]
