"""The names of the ORM's tags, and what a user's tag means in them.

Every tag of a table lies below the table's root, "@<table>":

    @t              root: bumped by hand and by coarse writes, drops all below
    @t:any          bumped by every write to the table
    @t:row:<pk>     bumped by every write to that row; @t:row by writes to unknown rows
    @t:mem:<c>:<v>  bumped when a row may have come to hold value v in foreign key column c;
                    @t:mem:<c> where the value is not known
    @t:ins          bumped by every insert
    @t:held:<pk>    bumped by hand only, for entries that depend on `any` and hold the row;
                    @t:bucket:<n> the same where an entry holds too many rows to name
    @t:opaque       bumped by hand only, for entries whose rows are not known

Tables, not models or aliases: proxies, historical models and replicas share them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any
from uuid import UUID

from django.apps import apps
from django.core.exceptions import ValidationError
from django.db.models import ForeignKey, Model
from django.db.models.fields import Field

from zoocache.contrib.django.lexer import last_part

BUCKETS = 256


def quote(part: object) -> str:
    """Any value as one part of a tag: distinct values stay distinct."""
    text = part.hex if isinstance(part, UUID) else str(part)
    if not text:
        return "%"  # nothing else gives a lone percent sign
    if "%" in text or ":" in text or "\0" in text:
        return text.replace("%", "%25").replace(":", "%3A").replace("\0", "%00")
    return text


@cache
def root(table: str) -> str:
    # Raw SQL may spell it in another case, and a db_table may carry its schema.
    return "@" + quote((last_part(table) if '"' in table else table).lower())


def any_of(table: str) -> str:
    return root(table) + ":any"


def row(table: str, pk: object) -> str:
    return f"{root(table)}:row:{quote(pk)}"


def rows(table: str) -> str:
    return root(table) + ":row"


def member(table: str, column: str, value: object) -> str:
    return f"{root(table)}:mem:{quote(column)}:{quote(value)}"


def members(table: str, column: str) -> str:
    return f"{root(table)}:mem:{quote(column)}"


def inserts(table: str) -> str:
    return root(table) + ":ins"


def held(table: str, pk: object) -> str:
    return f"{root(table)}:held:{quote(pk)}"


def bucket(table: str, pk: object) -> str:
    # Not hash(): it differs between processes.
    return f"{root(table)}:bucket:{sum(quote(pk).encode(errors='surrogatepass')) % BUCKETS}"


def opaque(table: str) -> str:
    return root(table) + ":opaque"


def told(tag: str) -> str:
    """A tag of the ORM in words; other tags as they are."""
    parts = tag.split(":")
    if not tag.startswith("@") or len(parts) > 4:
        return tag
    table, kind, rest = _unquote(parts[0][1:]), "".join(parts[1:2]), list(map(_unquote, parts[2:]))
    words = {
        ("", 0): "all of {0}",
        ("any", 0): "any write to {0}",
        ("row", 0): "writes to unknown rows of {0}",
        ("row", 1): "row {1} of {0}",
        ("mem", 1): "any change of {0}.{1}",
        ("mem", 2): "rows of {0} that get {1} = {2}",
        ("ins", 0): "inserts into {0}",
        ("held", 1): "row {1} of {0}, by hand",
        ("bucket", 1): "many rows of {0}, by hand",
        ("opaque", 0): "{0}, by hand",
    }.get((kind, len(rest)))
    return tag if words is None else words.format(table, *rest)


def _unquote(part: str) -> str:
    return (
        part.replace("%00", "\0").replace("%3A", ":").replace("%25", "%") if "%" in part else part
    )


def target_of(field: Field[Any, Any]) -> Field[Any, Any]:
    """The field that a foreign key's values come from, through any number of keys."""
    while isinstance(field, ForeignKey):
        field = field.target_field
    return field


def canonical(field: Field[Any, Any], value: Any) -> object | None:
    """A key's value in the one form that its tags use; None if it cannot be one."""
    try:
        return target_of(field).to_python(value)  # type: ignore[no-any-return]
    except (ValidationError, TypeError, ValueError, OverflowError):
        return None


def expand(tag: str) -> Iterator[str]:
    """All that "Product", "Product:42" or "Product:category:5" can mean, to invalidate it."""
    for model, parts in _meanings(tag):
        table = model._meta.db_table
        if not parts:
            yield root(table)
            continue
        for pk in _keys(model._meta.pk, parts):
            yield row(table, pk)
            yield held(table, pk)
            yield bucket(table, pk)
        yield opaque(table)
        for field in _foreign_keys(model, parts[0]):
            if len(parts) == 1:
                yield members(table, field.column)
            for value in _keys(field, parts[1:]):
                yield member(table, field.column, value)


def depend(tag: str) -> Iterator[str]:
    """What a result that was declared to depend on the tag must depend on, to miss no write.

    A row that leaves a foreign key value is not seen by that value's tag, so a
    membership means the whole table here.
    """
    for model, parts in _meanings(tag):
        table = model._meta.db_table
        keys = list(_keys(model._meta.pk, parts)) if parts else []
        if keys and not _foreign_keys(model, parts[0]):
            yield from (row(table, pk) for pk in keys)
            # What is written to a multi-table parent's columns names the parent's row only.
            yield from (any_of(parent._meta.db_table) for parent in model._meta.get_parent_list())
        else:
            yield any_of(table)
            yield from (any_of(parent._meta.db_table) for parent in model._meta.get_parent_list())


def _meanings(tag: str) -> Iterator[tuple[type[Model], list[str]]]:
    head, *parts = tag.split(":")
    for model in _models_by_name().get(head.lower(), ()):
        yield model, parts


def _keys(field: Any, parts: list[str]) -> Iterable[object]:
    if not parts or field is None:
        return ()
    value = canonical(field, ":".join(parts))
    return () if value is None else (value,)


def _foreign_keys(model: type[Model], name: str) -> list[Any]:
    return [
        field
        for field in model._meta.concrete_fields
        if isinstance(field, ForeignKey) and name in (field.name, field.attname)
    ]


_names: tuple[object, dict[str, list[type[Model]]]] = (None, {})


def _models_by_name() -> dict[str, list[type[Model]]]:
    """Models by "product" and by "shop.product"; one bare name may mean several."""
    global _names
    if not apps.models_ready:
        return {}
    models = apps.get_models(include_auto_created=True)  # the same list until the registry changes
    if _names[0] is not models:
        by_name: dict[str, list[type[Model]]] = {}
        for model in models:
            for name in (model._meta.model_name or "", model._meta.label_lower):
                by_name.setdefault(name, []).append(model)
        _names = (models, by_name)
    return _names[1]
