"""Model instances: the tags that they bring along, and what names them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.db.models import Manager, Model, QuerySet
from django.db.models.fields.files import FieldFile
from django.utils.functional import LazyObject, Promise, empty
from django.utils.safestring import SafeString

from zoocache import codec, store
from zoocache.exceptions import TagError, UnstorableError

DEPS = "zoocache_deps"
_ANONYMOUS = ("django.contrib.auth.models", "AnonymousUser")  # that app may not be installed


def own_deps(compiler: Any, rows: Sequence[Any]) -> set[str]:
    """What the instances in a SELECT's rows add by `zoocache_deps`. Raises whatever that raises."""
    wanted = [info for info in _classes(compiler.klass_info) if hasattr(info["model"], DEPS)]
    deps: set[str] = set()
    if not wanted or not rows:
        return deps
    for row in compiler.results_iter(results=[rows]):
        for info in wanted:
            instance = _instance(compiler, info, row)
            if instance is not None:
                deps.update(_checked(getattr(instance, DEPS)()))
    return store.meaning(deps)


def _classes(info: Any) -> Iterator[Any]:
    """The model of the rows and those that select_related adds."""
    if info is not None:
        yield info
        for related in info.get("related_klass_infos", ()):
            yield from _classes(related)


def _instance(compiler: Any, info: Any, row: Sequence[Any]) -> Any:
    model, loaded = info["model"], {}
    for index in info["select_fields"]:
        loaded[compiler.select[index][0].target.attname] = row[index]
    if loaded.get(model._meta.pk.attname) is None:
        return None  # a LEFT JOIN found none
    return model.from_db(compiler.using, list(loaded), list(loaded.values()))


def _checked(tags: Iterable[str]) -> Iterable[str]:
    if isinstance(tags, str):
        raise TagError(f"tags are a list, not the string {tags!r}: return [{tags!r}]")
    return tags


def name_of_value(value: Any) -> bytes:
    """Distinct for distinct values, for keys: whatever can be stored, and model instances.

    An instance is all that is loaded in it: its fields, related and prefetched
    objects. UnstorableError for what holds anything else.
    """
    return codec.encode_name(_named(value, {}))


def _named(value: Any, seen: dict[int, int]) -> Any:
    if isinstance(value, LazyObject):  # request.user is one
        if value._wrapped is empty:
            value._setup()
        value = value._wrapped
    if isinstance(value, Promise):  # of a translation
        return ("lazy", str(value))
    if isinstance(value, SafeString):
        return ("safe", str.__str__(value))
    if (type(value).__module__, type(value).__name__) == _ANONYMOUS:
        return ("anonymous",)
    if isinstance(value, Model):
        if id(value) in seen:
            return ("seen", seen[id(value)])
        seen[id(value)] = len(seen)
        return _named_instance(value, seen)
    if isinstance(value, QuerySet):
        if value._result_cache is None:
            raise UnstorableError("a queryset that is not evaluated cannot name an entry")
        return [_named(each, seen) for each in value._result_cache]
    if isinstance(value, Manager):
        raise UnstorableError("a manager cannot name an entry")
    if isinstance(value, FieldFile):
        return ("file", value.name)
    if type(value) in (list, tuple):
        return (type(value).__name__, [_named(each, seen) for each in value])
    if type(value) is dict:
        return ("dict", [(_named(k, seen), _named(v, seen)) for k, v in value.items()])
    return value


def _named_instance(instance: Any, seen: dict[int, int]) -> Any:
    state = instance._state
    loaded = {k: v for k, v in vars(instance).items() if k != "_state"}
    prefetched = loaded.pop("_prefetched_objects_cache", {})
    return (
        instance._meta.label,
        state.db,
        state.adding,
        [
            [(name, _named(part[name], seen)) for name in sorted(part)]
            for part in (loaded, state.fields_cache, prefetched)
        ],
    )
