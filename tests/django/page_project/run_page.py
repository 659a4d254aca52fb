"""Runs what a page of the documentation shows, in the Django project in this folder.

    python run_page.py page.md

As somebody would who tries the page from top to bottom:

- assignments to names in capitals are settings;
- a block with models is an app of its own, which is migrated and used: what was read is served
  without a query, until it is saved;
- other Python runs statement by statement, in one namespace with what the page takes for granted.
  A queryset that comes of a statement is read twice: the second time without a query if the
  statement says `cached`, and with one if it does not;
- templates are rendered, and lines with manage.py run.

Segments that the page names "shop" or "shop-..." get the name ZOOCACHE_NAME in its place.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any, NamedTuple

PRELUDE = """\
from django.db import models
from zoocache import invalidate
from zoocache.contrib.django import ZooCacheManager
"""
RELATED = """
class {}(models.Model):
    name = models.CharField(max_length=255)
    objects = ZooCacheManager()
"""


class Block(NamedTuple):
    language: str
    text: str
    where: str


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    segment = rf'"{os.environ["ZOOCACHE_NAME"]}\1"'
    return [
        Block(
            found[1],
            re.sub(r'"shop(-\w+)?"', segment, found[2]),
            f"{page.name}, line {text.count(chr(10), 0, found.start(2)) + 1}",
        )
        for found in re.finditer(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    ]


def is_setting(statement: ast.stmt) -> bool:
    """Is it `NAME = ...` or `NAME[...] = ...`?"""
    if not isinstance(statement, ast.Assign):
        return False
    (target,) = statement.targets
    target = target.value if isinstance(target, ast.Subscript) else target
    return isinstance(target, ast.Name) and target.id.isupper()


def declares_model(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.ClassDef) and any(
        ast.unparse(base) == "models.Model" for base in statement.bases
    )


def related_of(block: Block) -> set[str]:
    """The models that those of the block refer to and that it does not declare."""
    named = set(re.findall(r'(?:ForeignKey|ManyToManyField)\(["\']?(\w+)', block.text))
    return named - set(re.findall(r"^class (\w+)", block.text, re.MULTILINE))


class Part(NamedTuple):
    """What becomes of a block: an app with its models, and statements to be run."""

    block: Block
    app: str
    statements: list[ast.stmt]


def take_apart(blocks: list[Block]) -> list[Part]:
    """Writes the settings and the apps; returns what is to be run, in order."""
    parts, settings = [], Path("settings.py").read_text()
    for number, block in enumerate(blocks):
        if block.language != "python":
            parts.append(Part(block, "", []))
            continue
        body = ast.parse(block.text, block.where).body
        if all(map(is_setting, body)):
            settings += block.text
            parts.append(Part(block, "", []))
        elif any(map(declares_model, body)):
            head = [each for each in body if isinstance(each, ast.ClassDef | ast.ImportFrom)]
            app = f"part{number}"
            Path(app).mkdir()
            Path(app, "__init__.py").touch()
            source = PRELUDE + "".join(map(RELATED.format, sorted(related_of(block))))
            source += "".join(f"\n{ast.get_source_segment(block.text, each)}\n" for each in head)
            Path(app, "models.py").write_text(source)
            settings += f"\nINSTALLED_APPS.insert(-1, {app!r})\n"
            parts.append(Part(block, app, [each for each in body if each not in head]))
        else:
            parts.append(Part(block, "", body))
    Path("settings.py").write_text(settings)
    return parts


def fill(model: Any, pk: int) -> Any:
    """An instance of the model, saved, with everything that it refers to."""
    from django.db import models

    values: dict[str, Any] = {}
    for field in model._meta.concrete_fields:
        if isinstance(field, models.ForeignKey):
            of = field.related_model
            values[field.name] = of._base_manager.filter(pk=pk).first() or fill(of, pk)
        elif isinstance(field, models.CharField):
            values[field.name] = f"{model.__name__} {pk}"
        elif isinstance(field, models.DecimalField):
            values[field.name] = pk
    return model._base_manager.create(pk=pk, **values)


def count_queries(call: Any) -> int:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as captured:
        call()
    return len(captured)


def use(model: Any) -> None:
    """A model of the page is cached, and what is saved shows."""

    def read() -> list[Any]:
        return [vars(row) for row in model.cached.all()]

    instance = model.objects.get(pk=42)
    try:
        getattr(instance, "zoocache_deps", list)()
    except AttributeError:
        kept = False  # the page's own slip: such rows are not kept
    else:
        kept = True
    read()
    assert (count_queries(read) == 0) == kept, model
    if hasattr(instance, "name"):
        instance.name = "saved"
    instance.save()
    assert count_queries(lambda: model.cached.get(pk=42)) == 1
    assert getattr(model.cached.get(pk=42), "name", "saved") == "saved"


def run_statement(statement: ast.stmt, part: Part, names: dict[str, Any]) -> None:
    from django.db.models import QuerySet
    from django.db.models.query import RawQuerySet

    source = ast.get_source_segment(part.block.text, statement) or ""
    value = None
    if isinstance(statement, ast.Expr):
        expression = ast.Expression(statement.value)
        value = eval(compile(expression, part.block.where, "eval"), names)
    else:
        exec(compile(ast.Module([statement], []), part.block.where, "exec"), names)
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            value = names[statement.targets[0].id]
    if isinstance(value, QuerySet | RawQuerySet):
        is_cached = "cached" in source and "no_cache" not in source
        read = value.all if isinstance(value, QuerySet) else value.iterator
        count_queries(lambda: list(read()))
        again = count_queries(lambda: list(read()))
        assert (again == 0) == is_cached, f"{again} queries: {source}"


def given() -> dict[str, Any]:
    """What pages take for granted, beside what they have shown."""
    names: dict[str, Any] = {"__name__": "shop.page", "__package__": "shop"}
    exec(
        """
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db.models import Count, Max, Min, Q
from django.shortcuts import render
from django.views.generic import DetailView, ListView
from rest_framework import serializers

from shop.models import *
from shop.serializers import ProductSerializer
""",
        names,
    )
    for pk in (1, 5, 42):
        instance = fill(names["Product"], pk)
    instance.tags.add(names["Tag"].objects.create(name="new"))
    return names | {
        "product": instance,
        "instance": instance,
        "load_profile": lambda user_id: {"id": user_id},
        "read_from_database": lambda: b"row 7",
        "count_queries": count_queries,
    }


def run_part(part: Part, names: dict[str, Any]) -> None:
    from django.apps import apps
    from django.core.management import call_command

    if part.app:
        models = list(apps.get_app_config(part.app).get_models())
        for model in models:
            if not model._base_manager.filter(pk=42).exists():
                fill(model, 42)
        for model in models:
            use(model)
        names = names | {model.__name__: model for model in models}
    for statement in part.statements:
        run_statement(statement, part, names)
    if part.block.language == "html":
        render(part.block.text, names["Product"].cached.all())
    if part.block.language == "sh":
        for line in part.block.text.splitlines():
            if line.startswith("manage.py "):
                call_command(*shlex.split(line, comments=True)[1:])


def render(text: str, products: Any) -> None:
    from django.template import engines

    def rendered() -> str:
        return str(engines["django"].from_string(text).render({"products": products}))

    assert "Product 42" in rendered(), rendered()
    assert count_queries(rendered) == 0


def main(page: Path) -> None:
    parts = take_apart(blocks_of(page))
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
    import django

    django.setup()
    from django.core.management import call_command

    call_command("check")
    call_command("migrate", run_syncdb=True, verbosity=0)
    names = given()
    for part in parts:
        run_part(part, names)
        print(part.block.where)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
