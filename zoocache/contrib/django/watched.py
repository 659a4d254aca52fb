"""A dict that remembers whether somebody has looked into it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Watched(dict[Any, Any]):
    """`used` is True once any key was looked for, or one of `keys` if they are given."""

    used = False

    def __init__(self, values: Any, keys: frozenset[str] | None = None) -> None:
        super().__init__(values)
        self.keys_that_count = keys

    def _look(self, key: Any) -> None:
        if self.keys_that_count is None or key in self.keys_that_count:
            self.used = True

    def __getitem__(self, key: Any) -> Any:
        self._look(key)
        return super().__getitem__(key)

    def __contains__(self, key: Any) -> bool:
        self._look(key)
        return super().__contains__(key)

    def get(self, key: Any, default: Any = None) -> Any:
        self._look(key)
        return super().get(key, default)


def _looking(name: str) -> Callable[..., Any]:
    plain = getattr(dict, name)

    def method(self: Watched, *args: Any, **kwargs: Any) -> Any:
        self.used = self.used or self.keys_that_count is None or bool(self.keys_that_count)
        return plain(self, *args, **kwargs)

    method.__name__ = name
    return method


for _name in (
    "__iter__",
    "__len__",
    "__eq__",
    "__or__",
    "__ror__",
    "copy",
    "items",
    "keys",
    "pop",
    "popitem",
    "setdefault",
    "values",
):
    setattr(Watched, _name, _looking(_name))
