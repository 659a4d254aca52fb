"""`{% load zoocache %}`: fragments that are cached until what they show changes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from django import template
from django.core.exceptions import EmptyResultSet
from django.db.models import Manager, Model, QuerySet
from django.utils import timezone
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language

from zoocache import store
from zoocache.cacheable import observing
from zoocache.config import check_ttl
from zoocache.contrib.django.decorators import tags_of_sample
from zoocache.contrib.django.instances import name_of_value
from zoocache.exceptions import UnstorableError

register = template.Library()

# What differs from user to user, in the context that Django's processors give.
_PERSONAL = frozenset(["csrf_token", "messages", "perms", "request", "user"])

_ABOUT_THE_SOURCE = {"token", "origin", "parent"}


class CachedNode(template.Node):
    def __init__(self, nodelist: Any, given: list[Any], ttl: Any, name: bytes) -> None:
        self.nodelist = nodelist
        self.given = given
        self.ttl = ttl
        self.name = name
        known = {variable.split(".")[0] for each in given for variable in _variables(each)}
        self.personal = sorted((_PERSONAL & set(_variables(nodelist))) - known)

    def render(self, context: Any) -> SafeString:
        if self.personal:
            store.log_once(
                f"a fragment of a template is not cached: it shows {', '.join(self.personal)}, "
                f"which may differ from user to user; give that to {{% cached %}}, or keep it out"
            )
            return self.nodelist.render(context)  # type: ignore[no-any-return]
        values = [each.resolve(context) for each in self.given]
        ttl = None if self.ttl is None else check_ttl(self.ttl.resolve(context))
        samples: list[Any] = [each for each in values if isinstance(each, (QuerySet, Manager))]
        named = [value for value in values if not isinstance(value, (QuerySet, Manager))]
        try:
            key = (
                self.name,
                get_language(),
                timezone.get_current_timezone_name(),
                context.autoescape,
                name_of_value(named),
                list(map(_sql_of, samples)),
            )
        except UnstorableError as error:
            store.log_once(f"a fragment of a template is not cached: {error}")
            return self.nodelist.render(context)  # type: ignore[no-any-return]
        samples += [value for value in named if isinstance(value, Model)]
        found = _fragment(ttl)(key, samples, functools.partial(self.nodelist.render, context))
        return mark_safe(found)  # as it was when it was rendered


@functools.cache
def _fragment(ttl: float | None) -> Callable[..., str]:
    def deps(key: Any, samples: list[Any], render: Any) -> set[str]:
        return {tag for sample in samples for tag in tags_of_sample(sample)}

    @observing(ttl=ttl, deps=deps, key=lambda key, samples, render: key, name="{% cached %}")
    def fragment(key: Any, samples: list[Any], render: Callable[[], str]) -> str:
        return str.__str__(render())  # str() would leave a SafeString as it is

    return fragment


@register.tag("cached")
def do_cached(parser: Any, token: Any) -> CachedNode:
    """{% cached values... [ttl=seconds] %} ... {% endcached %}

    Rendered again when something changes that the block reads through the ORM.
    The values tell fragments apart: give all that the block shows and does not
    read itself. An instance counts with everything that is loaded in it; a
    queryset is what the block depends on. A block that shows the user, or
    anything else that belongs to one, is not cached unless that is given.
    """
    name, *bits = token.split_contents()
    ttl, given = None, []
    for bit in bits:
        if bit.startswith("ttl="):
            ttl = parser.compile_filter(bit.removeprefix("ttl="))
        elif "=" in bit and bit[0] not in "'\"":
            raise template.TemplateSyntaxError(f"{{% {name} %}} knows ttl=, not {bit!r}")
        else:
            given.append(parser.compile_filter(bit))
    nodelist = parser.parse((f"end{name}",))
    parser.delete_first_token()
    return CachedNode(nodelist, given, ttl, _identity_of(parser, token, nodelist))


def _identity_of(parser: Any, token: Any, nodelist: Any) -> bytes:
    """Names the block by where it is and by what is written in it."""
    source = getattr(getattr(parser, "origin", None), "name", "")
    nodes = [node for each in nodelist for node in each.get_nodes_by_type(template.Node)]
    text = repr([getattr(getattr(node, "token", None), "contents", "") for node in nodes])
    return f"{source}\0{token.lineno}\0{token.contents}\0{text}".encode(errors="surrogatepass")


def _variables(part: Any) -> Iterator[str]:
    """The first names of the variables that occur in a part of a compiled template."""
    seen: set[int] = set()
    parts = [part]
    while parts:
        part = parts.pop()
        if id(part) in seen or isinstance(part, (str, bytes, int, type)):
            continue
        seen.add(id(part))
        if type(part).__name__ == "CsrfTokenNode":
            yield "csrf_token"
        if isinstance(part, template.Variable):
            yield from (part.lookups or ())[:1]
        elif isinstance(part, (list, tuple)):
            parts += part
        elif isinstance(part, dict):
            parts += part.values()
        elif type(part).__module__.startswith("django.template") or isinstance(part, template.Node):
            parts += [getattr(part, name, None) for name in _attributes(part) - _ABOUT_THE_SOURCE]


def _attributes(part: Any) -> set[str]:
    slots = [name for base in type(part).__mro__ for name in vars(base).get("__slots__", ())]
    return {*slots, *getattr(part, "__dict__", ())}


def _sql_of(sample: Any) -> str:
    try:
        return str(sample.all().query)
    except EmptyResultSet:
        return ""
