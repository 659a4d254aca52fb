"""`why` of a query that somebody typed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.apps import apps
from django.db import models
from django.db.models.query import RawQuerySet

from zoocache.contrib.django.why import why
from zoocache.exceptions import ZooCacheError


def why_query(expression: str) -> str:
    """Evaluates a query, as in a shell with all models at hand, and tells of each cached read.

    ZooCacheError if it is none, or raises.
    """
    return why(_evaluation(expression))


def _evaluation(expression: str) -> Callable[[], Any]:
    names = {model.__name__: model for model in apps.get_models()}
    names |= {model._meta.label.replace(".", "_"): model for model in apps.get_models()}
    try:
        code = compile(expression, "<why>", "eval")
    except (SyntaxError, ValueError) as error:
        raise ZooCacheError(f"{expression!r} is neither a tag nor a query: {error}") from error

    def evaluate() -> None:
        try:
            result = eval(code, {**vars(models), **names})
            if isinstance(result, (models.QuerySet, RawQuerySet)):
                list(result)
        except Exception as error:
            raise ZooCacheError(f"{expression!r} raised {type(error).__name__}: {error}") from error

    return evaluate
