"""What zoocache is told: the segment's name, size and group, the default ttl, on or off.

``resolve`` merges, strongest first: what ``configure`` was given, the registered sources (a
framework's settings; of several, the one registered last), the environment variables
``ZOOCACHE_NAME``, ``ZOOCACHE_SIZE``, ``ZOOCACHE_ENTRY_SIZE``, ``ZOOCACHE_TTL``,
``ZOOCACHE_ENABLED``, ``ZOOCACHE_LOCAL`` and ``ZOOCACHE_GROUP``, the defaults.
Each value is checked where it wins, and the error says where it came from.
"""

from __future__ import annotations

import difflib
import grp
import math
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from typing import Any, Final

from zoocache import isolation
from zoocache.exceptions import ConfigError

MIN_SIZE: Final = 1 << 20
MIN_ENTRY_SIZE: Final = 64
MAX_ENTRY_SIZE: Final = 1 << 20
MAX_TTL: Final = 100 * 366 * 86400.0
_UNITS: Final = {
    "": 1,
    "b": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", 1)},
}
_SIZE = re.compile(r"\s*([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([a-z]*)\s*", re.IGNORECASE)
_NO_GROUP: Final = 0xFFFFFFFF
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_WORDS: Final = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


class Unset:
    """The type of ``UNSET``."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset()
"""A setting that was not given, where None has a meaning of its own."""


@dataclass(frozen=True)
class Settings:
    """Settings in force: sizes in bytes, ttl in seconds or None for no expiry.

    `entry_size` is what an entry takes on average, by which a new segment's index is
    sized; 0 where that is not known. `local` is what each process may keep of decoded
    values, 0 for nothing. `group` is the number of the group that shares the segment, None
    where it is the user's alone.
    """

    name: str = "default"
    size: int = 64 << 20
    ttl: float | None = None
    enabled: bool = True
    local: int = 16 << 20
    entry_size: int = 0
    group: int | None = None

    @property
    def segment(self) -> str:
        """What `zoocache.shm` calls the segment."""
        return self.segment_called(self.name)

    def segment_called(self, name: str) -> str:
        """What `zoocache.shm` calls another segment of the same user or group."""
        return name if self.group is None else f"{self.group}/{name}"


KEYS: Final = tuple(field.name.upper() for field in fields(Settings))

Source = Callable[[], Mapping[str, Any]]


@dataclass(frozen=True)
class _Registered:
    read: Source
    label: str
    extra_keys: frozenset[str]


_lock = threading.Lock()
os.register_at_fork(after_in_child=lambda: _renew_lock())
_overrides: dict[str, Any] = {}
_sources: list[_Registered] = []
_generation = 0

listeners: list[Callable[[], None]] = []
"""Called whenever ``generation`` has grown."""


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()  # a thread that held it is not in the child


def generation() -> int:
    """Return a number that grows whenever ``resolve`` may give another result.

    A change of an environment variable, or inside a source, is not noticed: see ``changed``.
    """
    return _generation


def changed() -> None:
    """Say that a source will now return other values, so that ``generation`` grows."""
    global _generation
    with _lock:
        _generation += 1
    for listener in listeners:
        listener()


def set_overrides(
    *,
    name: str | None = None,
    size: int | str | None = None,
    entry_size: int | str | None = None,
    ttl: float | Unset | None = UNSET,
    enabled: bool | None = None,
    local: int | str | None = None,
    group: int | str | Unset | None = UNSET,
) -> None:
    """Set the strongest values, those of ``configure``; what is not given stays as it was.

    Values are checked here, so that ConfigError is raised at the call that is wrong, and nothing
    is set.
    """
    given: dict[str, Any] = {
        "NAME": name, "SIZE": size, "ENTRY_SIZE": entry_size, "ENABLED": enabled, "LOCAL": local,
    }  # fmt: skip
    values = {key: value for key, value in given.items() if value is not None}
    if ttl is not UNSET:
        values["TTL"] = ttl
    if group is not UNSET:
        values["GROUP"] = group
    checked = {
        key: _CHECKS[key](value, f"configure({key.lower()}=...)") for key, value in values.items()
    }
    with _lock:
        _overrides.update(checked)
    changed()


def clear_overrides() -> None:
    """Forget everything that ``set_overrides`` was given."""
    with _lock:
        _overrides.clear()
    changed()


@contextmanager
def overriding(*, name: str | None, size: int | None = None) -> Iterator[None]:
    """Let another segment be the one in the block; None: the one that it is anyway."""
    with _lock:
        before = dict(_overrides)
    set_overrides(name=name, size=size)
    try:
        yield
    finally:
        with _lock:
            _overrides.clear()
            _overrides.update(before)
        changed()


def register_source(read: Source, *, label: str, extra_keys: Iterable[str] = ()) -> None:
    """Let ``read`` give settings: a mapping with any of the keys of ``Settings`` in capitals.

    ``label`` names one setting in errors, with ``{key}`` for its key, as in
    ``"ZOOCACHE['{key}'] in Django settings"``. ``extra_keys`` are other keys that the mapping
    may hold and that its owner checks itself. A source with the same label is replaced.
    """
    source = _Registered(read, label, frozenset(extra_keys))
    with _lock:
        _sources[:] = [known for known in _sources if known.label != label] + [source]
    changed()


def unregister_source(label: str) -> None:
    """Forget the source with that label, if there is one."""
    with _lock:
        _sources[:] = [known for known in _sources if known.label != label]
    changed()


def resolve(keys: Iterable[str] = KEYS) -> Settings:
    """Return the settings in force; ConfigError if a value cannot be used.

    Settings other than ``keys`` are not looked at and have their defaults. In a test run, name
    and size are those of the run's own segment (zoocache.isolation), which no group shares.
    """
    with _lock:
        overrides, sources = dict(_overrides), list(_sources)
    winners: dict[str, tuple[Any, str]] = {}
    for key in keys:
        variable = f"ZOOCACHE_{key}"
        text = os.environ.get(variable, "").strip()
        if text:
            winners[key] = (_from_text(key, text), f"{variable} environment variable")
    for source in sources:
        values = source.read()
        if keys is KEYS:
            _refuse_unknown(values, source)
        for key in keys:
            if key in values:
                winners[key] = (values[key], source.label.format(key=key))
    checked = {key: _CHECKS[key](*winners[key]) for key in winners if key not in overrides}
    checked.update(overrides)
    settings = Settings(**{key.lower(): value for key, value in checked.items()})
    return replace(
        settings,
        name=isolation.name_of(settings.name),
        size=isolation.size_of(settings.size),
        group=None if isolation.is_on() else settings.group,
    )


def segment_name(name: str | None = None) -> str:
    """What `zoocache.shm` calls the segment of that name, or the settings' own; ConfigError."""
    settings = resolve(["NAME", "GROUP"] if name is None else ["GROUP"])
    return settings.segment if name is None else settings.segment_called(name)


def parse_size(value: object, origin: str = "size") -> int:
    """Return a number of bytes from 1048576, "1048576", "64MiB", "64MB" or "1.5GiB".

    ConfigError, which starts with ``origin``, for anything else and for less than 1 MiB.
    """
    size = _parse_bytes(value, origin)
    if size < MIN_SIZE:
        raise ConfigError(f"{origin}: size must be at least 1MiB, got {_shown(value)}")
    return size


def _parse_bytes(value: object, origin: str, what: str = "size") -> int:
    size: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        size = int(value)
    elif isinstance(value, str):
        match = _SIZE.fullmatch(value)
        unit = _UNITS.get(match[2].lower()) if match else None
        if match and unit:
            size = int(Decimal(match[1]) * unit)
    if size is None:
        raise ConfigError(
            f"{origin}: {what} must be like 64MiB, 64MB, 1.5GiB or a number of bytes, "
            f"got {_shown(value)}"
        )
    return size


def _check_entry_size(value: object, origin: str) -> int:
    size = _parse_bytes(value, origin, "entry_size")
    if size != 0 and not MIN_ENTRY_SIZE <= size <= MAX_ENTRY_SIZE:
        raise ConfigError(
            f"{origin}: entry_size must be {MIN_ENTRY_SIZE} bytes to 1MiB, or 0 where it is not "
            f"known, got {_shown(value)}"
        )
    return size


def _check_local(value: object, origin: str) -> int:
    size = _parse_bytes(value, origin)
    if size < 0:
        raise ConfigError(f"{origin}: size must be 0 or more, got {_shown(value)}")
    return size


def _from_text(key: str, text: str) -> Any:
    """Return what an environment variable says, or the text itself for the check to refuse."""
    if key == "ENABLED":
        return _WORDS.get(text.lower(), text)
    if key == "TTL":
        try:
            return None if text.lower() == "none" else float(text)
        except ValueError:
            return text
    return text


def _shown(value: object) -> str:
    """Return a repr for a message, cut short; an integer may be too long to have one."""
    try:
        text = repr(value)
    except ValueError:
        text = f"a huge {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _refuse_unknown(values: Mapping[str, Any], source: _Registered) -> None:
    valid = sorted({*KEYS, *source.extra_keys})
    for key in values:
        if key not in valid:
            near = difflib.get_close_matches(str(key).upper(), valid, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"valid keys are {', '.join(valid)}"
            raise ConfigError(f"{source.label.format(key=key)}: there is no such key; {hint}")


def _check_name(value: object, origin: str) -> str:
    if isinstance(value, str) and _NAME.fullmatch(value):
        return str(value)
    raise ConfigError(
        f"{origin}: name must be 1 to 64 characters out of A-Z a-z 0-9 . _ - and must not start "
        f"with a dot, got {_shown(value)}"
    )


def check_ttl(value: object, origin: str = "ttl") -> float | None:
    """Return a ttl in seconds, or None; ConfigError for what is neither."""
    return None if value is None else _seconds(value, f"{origin}: ttl", ", or None for no expiry")


def check_seconds(value: object, origin: str) -> float:
    """Return a number of seconds; ConfigError, which starts with ``origin``, for what is none."""
    return _seconds(value, origin, "")


def _seconds(value: object, what: str, otherwise: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            seconds = float(value)
        except OverflowError:
            seconds = math.inf
        if 0 < seconds <= MAX_TTL:
            return seconds
    raise ConfigError(
        f"{what} must be a positive number of seconds, at most a hundred years{otherwise}, "
        f"got {_shown(value)}"
    )


def _check_enabled(value: object, origin: str) -> bool:
    if isinstance(value, bool):
        return value
    raise ConfigError(
        f"{origin}: enabled must be true or false (in the environment also 1, 0, yes, no, on, "
        f"off), got {_shown(value)}"
    )


def _check_group(value: object, origin: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, str):
        try:
            return grp.getgrnam(value).gr_gid
        except KeyError:
            if not (value.isascii() and value.isdecimal()):
                raise ConfigError(
                    f"{origin}: there is no group {_shown(value)} on this machine (groupadd makes "
                    f"one; a number will do where it has no name)"
                ) from None
            value = int(value)
        except ValueError:  # with a NUL
            pass
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _NO_GROUP:
        return int(value)
    raise ConfigError(f"{origin}: group must be the name or number of one, got {_shown(value)}")


_CHECKS: Final[dict[str, Callable[[object, str], Any]]] = {
    "NAME": _check_name,
    "SIZE": parse_size,
    "ENTRY_SIZE": _check_entry_size,
    "TTL": check_ttl,
    "ENABLED": _check_enabled,
    "LOCAL": _check_local,
    "GROUP": _check_group,
}
