"""Serializers of Django REST framework whose output is cached, instance by instance.

    from zoocache.contrib.django import cached_model_serializers

    ProductSerializer(product, cached=True).data
    ProductSerializer(Product.cached.all(), many=True, cached=True).data

The key names all that is loaded in the instance, the fields, the language and the
time zone, and of the context what can be named; what the serializer reads from
the database on its way becomes what the entry depends on. So output is never that
of another state of the row. Whoever looks at the rest of the context, the request
above all, is not cached: its output may be one user's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, overload

from django.db.models import Model
from django.utils import timezone
from django.utils.translation import get_language

from zoocache import codec, store
from zoocache.cacheable import current_frame, observing
from zoocache.config import check_ttl
from zoocache.contrib.django.decorators import tags_of_sample
from zoocache.contrib.django.instances import name_of_value
from zoocache.contrib.django.watched import Watched
from zoocache.exceptions import UnstorableError
from zoocache.identity import identity_of, name_of

try:
    from rest_framework import serializers
except ImportError:  # it is optional
    serializers = None

T = TypeVar("T", bound=type)

_TTL = "zoocache_ttl"
_SWITCH = "_zoocache_cached"
# Arguments of fields that do not change what they show.
_SILENT = frozenset(
    [
        "allow_blank",
        "allow_null",
        "cached",
        "context",
        "data",
        "default",
        "error_messages",
        "help_text",
        "initial",
        "instance",
        "label",
        "many",
        "queryset",
        "read_only",
        "required",
        "style",
        "validators",
        "write_only",
    ]
)


def cached_model_serializers() -> None:
    """Lets every ModelSerializer take `cached=True`. Importing this name has done so already.

    Without Django REST framework it does nothing.
    """
    if serializers is not None and not hasattr(serializers.ModelSerializer, _SWITCH):
        _extend(serializers.ModelSerializer)


@overload
def cacheable_serializer(serializer: T, *, ttl: float | None = None) -> T: ...
@overload
def cacheable_serializer(*, ttl: float | None = None) -> Callable[[T], T]: ...
def cacheable_serializer(
    serializer: T | None = None, *, ttl: float | None = None
) -> T | Callable[[T], T]:
    """Class decorator: the serializer caches unless it is given `cached=False`.

    `ttl` in seconds; None for the default of the settings.
    """
    check_ttl(ttl)

    def decorate(cls: T) -> T:
        _extend(cls)
        setattr(cls, _SWITCH, True)
        setattr(cls, _TTL, ttl)
        return cls

    return decorate if serializer is None else decorate(serializer)


class CacheableSerializerMixin:
    """First among a serializer's bases, it does as `cacheable_serializer`.

    `zoocache_model` names the model whose instances are cached, where Meta does
    not; `zoocache_ttl` is in seconds.
    """

    zoocache_model: type[Model] | None = None
    zoocache_ttl: float | None = None
    _zoocache_cached = True

    def __init__(self, *args: Any, cached: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._zoocache_cached = cached

    def to_representation(self, instance: Any) -> Any:
        return _cached(self, instance, super().to_representation)  # type: ignore[misc]


def _extend(cls: Any) -> None:
    """Gives a serializer class the argument `cached`, and a cached `to_representation`."""
    if _SWITCH in vars(cls):
        return
    init, represent = cls.__init__, cls.to_representation

    @functools.wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        cached = kwargs.pop("cached", None)
        init(self, *args, **kwargs)
        if cached is not None:
            setattr(self, _SWITCH, bool(cached))

    @functools.wraps(represent)
    def to_representation(self: Any, instance: Any) -> Any:
        return _cached(self, instance, functools.partial(represent, self))

    cls.__init__ = __init__
    cls.to_representation = to_representation
    setattr(cls, _SWITCH, False)


def _cached(serializer: Any, instance: Any, represent: Callable[[Any], Any]) -> Any:
    # Within another that is being cached, it is part of that one's entry.
    if not getattr(serializer, _SWITCH) or getattr(serializer.root, "_zoocache_at_work", False):
        return represent(instance)
    model = getattr(serializer, "zoocache_model", None) or getattr(
        getattr(serializer, "Meta", None), "model", None
    )
    if model is None or not isinstance(instance, model) or store.cache() is None:
        return represent(instance)
    try:
        key = _key(serializer, instance)
    except UnstorableError as error:
        store.log_once(f"output of {name_of(type(serializer))} is not cached: {error}")
        return represent(instance)
    keep = _kept(getattr(serializer, _TTL, None), name_of(type(serializer)))
    return keep(key, serializer, instance, represent)


@functools.cache
def _kept(ttl: float | None, name: str) -> Callable[..., Any]:
    def deps(key: Any, serializer: Any, instance: Any, represent: Any) -> set[str]:
        return tags_of_sample(instance)

    @observing(ttl=ttl, deps=deps, key=lambda key, *args: key, name=name)
    def kept(key: Any, serializer: Any, instance: Any, represent: Callable[[Any], Any]) -> Any:
        with _watching_context(serializer.root) as watched:
            shown = represent(instance)
        frame = current_frame()
        if watched.used and frame is not None:
            frame.storable = False
        return _plain(shown)

    return kept


@contextmanager
def _watching_context(root: Any) -> Iterator[Watched]:
    before = getattr(root, "_context", {})
    watched = Watched(before, frozenset(_split(before)[1]))
    root._context, root._zoocache_at_work = watched, True
    try:
        yield watched
    finally:
        root._context, root._zoocache_at_work = before, False


def _split(context: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Of a context what can be a part of keys, and the names of the rest."""
    named, rest = {}, []
    for name, value in context.items():
        try:
            codec.encode_name(value)
            named[name] = value
        except UnstorableError:
            rest.append(name)
    return named, sorted(rest)


def _key(serializer: Any, instance: Any) -> bytes:
    named, rest = _split(getattr(serializer.root, "_context", {}))
    return codec.encode_name(
        (
            _shape(serializer),
            name_of_value(instance),
            sorted(named.items()),
            rest,
            get_language(),
            timezone.get_current_timezone_name(),
        )
    )


def _shape(field: Any) -> Any:
    """All that a serializer or a field shows by its class and its arguments."""
    kwargs = {k: _argument(v) for k, v in field._kwargs.items() if k not in _SILENT}
    kind: Any = type(field)
    inner: list[Any] = []
    if hasattr(field, "fields"):
        inner = [(name, _shape(each)) for name, each in field.fields.items() if not each.write_only]
    elif getattr(field, "child", None) is not None:
        inner = [("", _shape(field.child))]
    elif getattr(field, "child_relation", None) is not None:
        inner = [("", _shape(field.child_relation))]
    return (
        _class_digest(kind),
        field.field_name,
        field.source,
        sorted(kwargs.items()),
        inner,
    )


def _argument(value: Any) -> Any:
    if callable(value) and hasattr(value, "__qualname__"):
        return name_of(value)
    if isinstance(value, (list, tuple)):
        return [_argument(each) for each in value]
    if serializers is not None and isinstance(value, serializers.Field):
        return _shape(value)
    codec.encode_name(value)
    return value


@functools.cache
def _class_digest(cls: Any) -> bytes:
    """The code of the class and its bases, so that a deployment of another is not met."""
    methods = [
        identity_of(value, closure=False)
        for base in cls.__mro__
        if not base.__module__.startswith(("rest_framework.", "builtins"))
        for _, value in sorted(vars(base).items())
        if callable(value) and hasattr(value, "__code__")
    ]
    return codec.encode_name((name_of(cls), methods))


def _plain(shown: Any) -> Any:
    """Dicts and lists of the framework's own classes as plain ones; their order stays."""
    if isinstance(shown, dict):
        return {key: _plain(value) for key, value in shown.items()}
    if isinstance(shown, (list, tuple)):
        return [_plain(value) for value in shown]
    # Strings of the framework's own (hyperlinks) and safe strings.
    return str.__str__(shown) if isinstance(shown, str) else shown


cached_model_serializers()
