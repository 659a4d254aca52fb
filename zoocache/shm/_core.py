"""The only importer of the C extension."""

from __future__ import annotations

from typing import Any

try:
    from zoocache.shm import _zoocore  # type: ignore[attr-defined]
except ImportError as error:  # pragma: no cover - only a broken installation gets here
    raise ImportError(
        "zoocache's C extension is missing or was built for another Python: reinstall zoocache "
        "for this interpreter (in a checkout: pip install -e .)."
    ) from error

ffi: Any = _zoocore.ffi
lib: Any = _zoocore.lib
