"""`manage.py zoocache`: ask the host's cache, or tell it, from a shell."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError, CommandParser

from zoocache import store
from zoocache.contrib.django.why import why, why_tag
from zoocache.exceptions import ZooCacheError

_EXPRESSION = re.compile(r"[.(]\w*\(|\.(?:cached|objects)\b")


class Command(BaseCommand):
    help = "Asks the host's cache why, or tells it what to drop."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        asked = actions.add_parser(
            "why", help="why a query is served from the cache or not; when a tag was invalidated"
        )
        asked.add_argument(
            "what", help="'Product.cached.filter(active=True)', or a tag: Product:42, Product"
        )
        dropped = actions.add_parser("invalidate", help="drops what depends on tags")
        dropped.add_argument("tags", nargs="+", help="Product, Product:42, Product:category:5, ...")
        actions.add_parser("clear", help="drops everything")
        actions.add_parser("stats", help="counters of the whole host")

    def handle(self, *args: Any, **options: Any) -> None:
        action: Callable[[dict[str, Any]], str] = getattr(self, f"_{options['action']}")
        try:
            self.stdout.write(action(options))
        except ZooCacheError as error:
            raise CommandError(str(error)) from error

    def _why(self, options: dict[str, Any]) -> str:
        what = options["what"]
        if not _EXPRESSION.search(what):
            return why_tag(what)
        return why(_evaluation(what))

    def _invalidate(self, options: dict[str, Any]) -> str:
        store.invalidate(*options["tags"])
        return "Dropped what depends on " + ", ".join(options["tags"])

    def _clear(self, options: dict[str, Any]) -> str:
        store.clear()
        return "Dropped everything"

    def _stats(self, options: dict[str, Any]) -> str:
        counters = store.stats()
        if not counters:
            return "There is no segment: no process has read from the cache yet."
        width = max(map(len, counters))
        return "\n".join(f"{name:{width}}  {value:,}" for name, value in counters.items())


def _evaluation(expression: str) -> Callable[[], Any]:
    """Runs the expression as a shell would, with all models at hand."""
    names = {model.__name__: model for model in apps.get_models()}
    names |= {label.replace(".", "_"): model for label, model in _by_label().items()}
    from django.db import models

    try:
        code = compile(expression, "<why>", "eval")
    except SyntaxError as error:
        raise CommandError(f"{expression!r} is neither a tag nor a query: {error}") from error

    def evaluate() -> None:
        try:
            result = eval(code, {**vars(models), **names})
        except Exception as error:
            raise CommandError(f"{expression!r} raised {type(error).__name__}: {error}") from error
        if hasattr(result, "query"):
            list(result)

    return evaluate


def _by_label() -> dict[str, Any]:
    return {model._meta.label: model for model in apps.get_models()}
