"""What zoocache takes from a model's class: two keys of Meta, and the hook on save.

Django refuses keys of Meta that it does not know. Taken off before it looks, they
are in no migration either.
"""

from __future__ import annotations

import copy
import functools
import logging
from collections.abc import Callable
from typing import Any

from django.db import connections, models, transaction
from django.db.models.manager import BaseManager
from django.db.models.options import Options
from django.db.models.signals import class_prepared, post_save

from zoocache.contrib.django.testcases import only_test_blocks

logger = logging.getLogger("zoocache.django")

HOOK = "zoocache_invalidate_on_save"
_KEYS = ("objects", "zoo_cache_signals")


def install() -> None:
    """Lets Meta have `objects`, a manager, and `zoo_cache_signals`, a bool."""
    original: Callable[..., None] = Options.contribute_to_class

    @functools.wraps(original)
    def contribute_to_class(self: Any, cls: Any, name: str) -> None:
        given = {key: getattr(self.meta, key) for key in _KEYS if hasattr(self.meta, key)}
        self.meta = _without_keys(self.meta)
        original(self, cls, name)
        _take(self, cls, given)

    Options.contribute_to_class = contribute_to_class  # type: ignore[method-assign]
    class_prepared.connect(_prepared, dispatch_uid="zoocache.meta")


def _without_keys(meta: Any) -> Any:
    """The same Meta without the keys. An abstract base's is shared: nothing is deleted from it."""
    if meta is None or not any(key in vars(meta) for key in _KEYS):
        return meta
    left = {key: value for key, value in vars(meta).items() if key not in _KEYS}
    for name in ("__dict__", "__weakref__"):
        left.pop(name, None)
    return type(meta.__name__, meta.__bases__, left)


def _take(options: Any, cls: Any, given: dict[str, Any]) -> None:
    signals = given.get("zoo_cache_signals")
    if signals not in (None, True, False):
        raise TypeError(f"{cls.__name__}.Meta.zoo_cache_signals is {signals!r}: True or False")
    options.zoo_cache_signals = signals
    manager = given.get("objects")
    if manager is None:
        return
    if not isinstance(manager, BaseManager):
        raise TypeError(
            f"{cls.__name__}.Meta.objects is {manager!r}: it takes a manager, as ZooCacheManager()"
        )
    cls.add_to_class("objects", copy.copy(manager))


@functools.cache
def has_signals(model: type[Any]) -> bool:
    """Does a write to the model say which rows it changes, and call its hook?

    A class that says nothing does as its bases do.
    """
    for cls in model.__mro__:
        said = getattr(vars(cls).get("_meta"), "zoo_cache_signals", None)
        if said is not None:
            return bool(said)
    return True


def _prepared(sender: type[models.Model], **kwargs: Any) -> None:
    if hasattr(sender, HOOK) and sender.__module__ != "__fake__":  # of a migration
        post_save.connect(_saved, sender=sender, dispatch_uid="zoocache.saved")


def _saved(sender: Any, instance: Any, using: str, **kwargs: Any) -> None:
    """Calls the model's hook after COMMIT. What it raises is logged: the write is done."""
    if not has_signals(sender):
        return
    kwargs.pop("signal", None)
    hook = functools.partial(_call, sender, instance, using=using, **kwargs)
    if only_test_blocks(connections[using]):
        hook()  # a TestCase's transaction never commits
    else:
        transaction.on_commit(hook, using=using)


def _call(sender: Any, instance: Any, **kwargs: Any) -> None:
    try:
        getattr(sender, HOOK)(instance, **kwargs)
    except Exception:
        logger.exception("%s.%s raised; the row is saved", sender._meta.label, HOOK)
