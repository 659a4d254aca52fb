"""Numbers and columns as people read them."""

from __future__ import annotations

from collections.abc import Sequence

_UNITS = ("KiB", "MiB", "GiB", "TiB")
_SPANS = ((86400 * 2, 86400, "d"), (3600 * 2, 3600, "h"), (120, 60, "min"))


def size(n: float) -> str:
    """A number of bytes: 512 B, 1.5 MiB."""
    if abs(n) < 1024:
        return f"{n:,.0f} B"
    for unit in _UNITS:
        n /= 1024
        if abs(n) < 1024 or unit == _UNITS[-1]:
            break
    return f"{n:,.1f} {unit}"


def span(seconds: float) -> str:
    """A time: 5 s, 3 min, 5 h, 12 d."""
    for least, unit, name in _SPANS:
        if seconds >= least:
            return f"{seconds / unit:,.0f} {name}"
    return f"{max(seconds, 0):,.0f} s"


def brief(seconds: float | None) -> str:
    """A short time, to two digits: 850 ns, 3.1 µs, 12 ms; a dash where there is none."""
    if seconds is None:
        return "-"
    for unit, name in ((1e-6, "ns"), (1e-3, "µs"), (1.0, "ms")):
        if seconds < unit:
            return f"{float(f'{1000 * seconds / unit:.2g}'):g} {name}"
    return f"{float(f'{seconds:.2g}'):g} s"


def percent(share: float | None) -> str:
    """A share of 1: 98.7 %; a dash where there is none."""
    return "-" if share is None else f"{100 * share:.1f} %"


def columns(rows: Sequence[Sequence[str]], indent: str = "") -> str:
    """Rows in columns, the last one as it is."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)] if rows else []
    return "\n".join(
        indent + "  ".join([*map(str.ljust, row[:-1], widths), row[-1]]).rstrip() for row in rows
    )
