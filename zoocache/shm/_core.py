"""The only importer of the C extensions: cffi's, and the door of the hot operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

try:
    from zoocache.shm import _door, _zoocore  # type: ignore[attr-defined]
except ImportError as error:  # pragma: no cover - only a broken installation gets here
    if "subinterpreter" in str(error):
        raise ImportError(
            "zoocache cannot be used in a sub-interpreter with a GIL of its own: cffi does not "
            "allow it. Use processes, or sub-interpreters that share the GIL."
        ) from error
    raise ImportError(
        "zoocache's C extensions are missing or were built for another Python: reinstall zoocache "
        "for this interpreter (in a checkout: pip install -e .)."
    ) from error

ffi: Any = _zoocore.ffi
lib: Any = _zoocore.lib
bind: Callable[..., dict[str, Callable[..., Any]]] = _door.bind
"""The hot operations of the segment at an address, by name: get, set, ..."""
Gate: Any = _door.Gate
Level: Any = _door.Level
Memo: Any = _door.Memo
"""See csrc/python/zoo_level.c."""
Filling: Any = _door.Filling
"""See csrc/python/zoo_filling.c."""
Step: Any = _door.Step
"""See csrc/python/zoo_step.c."""
Near: Any = _door.Near
"""See csrc/python/zoo_near.c."""
Update: Any = _door.Update
"""See csrc/python/zoo_update.c."""
