"""What is logged, under which names, with which fields: docs/operations.md lists them.

Problems are logged always. Each read and each invalidation is logged at DEBUG
where that level is on for `zoocache.reads` or `zoocache.invalidations` when
`start` is called: Django's app does so once logging is set up.
"""

from __future__ import annotations

import logging

from zoocache import notices, store
from zoocache.notices import Drop, Read

reads = logging.getLogger("zoocache.reads")
invalidations = logging.getLogger("zoocache.invalidations")


def start() -> None:
    """Logs reads and invalidations from now on, or no more, as the loggers' levels say."""
    on = reads.isEnabledFor(logging.DEBUG)
    (notices.listen_to_reads if on else notices.ignore_reads)(_log_read)
    on = invalidations.isEnabledFor(logging.DEBUG)
    (notices.listen_to_drops if on else notices.ignore_drops)(_log_drop)


def _log_read(read: Read) -> None:
    what = read.site.name + (f" at {read.site.place}" if read.site.place else "")
    reads.debug(
        "%s: %s in %.6f s%s", read.kind, what, read.seconds,
        f", {read.reason}" if read.reason else "",
        extra={
            "zoocache_segment": store.settings().name,
            "zoocache_kind": read.kind,
            "zoocache_name": read.site.name,
            "zoocache_place": read.site.place,
            "zoocache_key": read.key.hex(),
            "zoocache_seconds": read.seconds,
            "zoocache_reason": read.reason,
            "zoocache_stored": read.stored,
            "zoocache_bytes": read.size,
        },
    )  # fmt: skip


def _log_drop(drop: Drop) -> None:
    tags = None if drop.tags is None else sorted(drop.tags)
    invalidations.debug(
        "%s of %s", drop.cause, "everything" if tags is None else ", ".join(tags),
        extra={
            "zoocache_segment": store.settings().name,
            "zoocache_cause": drop.cause,
            "zoocache_tags": tags,
        },
    )  # fmt: skip
