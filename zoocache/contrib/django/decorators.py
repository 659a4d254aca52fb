"""Functions and views that are cached until what their querysets read changes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import DisallowedHost, EmptyResultSet
from django.db.models import Manager, Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.cache import has_vary_header
from django.utils.translation import get_language

from zoocache import store
from zoocache.cacheable import cacheable, current_frame, observing
from zoocache.config import check_ttl
from zoocache.contrib.django import tags
from zoocache.contrib.django.reading import tags_of
from zoocache.contrib.django.watched import Watched

P = ParamSpec("P")
R = TypeVar("R")
Key = str | Callable[..., object] | None


def cached_as(
    *samples: Any, ttl: float | None = None, key: Key = None, grace: float = 0, wait: float = 10
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """`cacheable` for a function whose result depends on the given querysets.

    Each of `samples` is a queryset, a model, a manager or an instance, or a
    function of the call's arguments that returns one or a list of them. The
    result is dropped when what they read changes; so it is by what cached
    querysets in the function read. The samples are never run. The rest is as in
    `cacheable`. TypeError for a sample that is none of these.
    """
    return cacheable(ttl=ttl, deps=_tags_of(samples), key=key, grace=grace, wait=wait)


def _tags_of(samples: Iterable[Any]) -> Callable[..., set[str]]:
    """The function of a call's arguments that gives what the samples depend on."""
    for sample in samples:
        _check(sample)

    def deps(*args: Any, **kwargs: Any) -> set[str]:
        found: set[str] = set()
        for sample in samples:
            given = sample(*args, **kwargs) if _is_function(sample) else sample
            for one in given if isinstance(given, (list, tuple)) else [given]:
                found |= tags_of_sample(one)
        return found

    return deps


def _is_function(sample: Any) -> bool:
    return callable(sample) and not isinstance(sample, (type, Manager, QuerySet, Model))


def _check(sample: Any) -> None:
    is_model = isinstance(sample, type) and issubclass(sample, Model)
    if not (is_model or isinstance(sample, (Manager, QuerySet, Model)) or _is_function(sample)):
        raise TypeError(
            f"cached_as() takes querysets, models, managers, instances, or functions that return "
            f"such, not {sample!r}"
        )


def tags_of_sample(sample: Any) -> set[str]:
    """What a queryset, a model, a manager or an instance depends on; TypeError for other things."""
    _check(sample)
    if isinstance(sample, Model):
        meta = sample._meta  # of a lazy object, too
        if sample.pk is None:
            return {tags.any_of(meta.db_table)}
        found = {tags.row(meta.db_table, tags.canonical(meta.pk, sample.pk))}
        return found | {tags.any_of(parent._meta.db_table) for parent in meta.get_parent_list()}
    if isinstance(sample, type):
        sample = sample._base_manager  # type: ignore[attr-defined]
    queryset = sample.all()
    try:
        found = tags_of(queryset.query.get_compiler(queryset.db)) or set()
    except EmptyResultSet:
        return set()
    # Of what cannot be cached as a query, its tables are known all the same.
    return found or {tags.any_of(sample.model._meta.db_table)}


def cached_view_as(
    *samples: Any,
    ttl: float | None = None,
    vary_on: Iterable[str] = (),
) -> Callable[[Callable[P, HttpResponseBase]], Callable[P, HttpResponseBase]]:
    """Caches the responses of a view to GET and HEAD, for all users, until what it read changes.

    A response depends on all that the view reads through the ORM, and on
    `samples` as in `cached_as`. Entries are told apart by the URL, the language,
    the time zone, the view's arguments and the request headers that `vary_on`
    names. Only what is the same for everybody is stored: status 200, no cookies
    set, not private, not streamed, and neither the session, the user, a cookie
    nor the CSRF token looked at. Everything else is answered anew each time.
    """
    deps = _tags_of(samples)
    headers = tuple(name.lower() for name in vary_on)
    check_ttl(ttl)

    def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
        if iscoroutinefunction(view):
            raise TypeError("cached_view_as() is for sync views: cache what an async one reads")

        def key(request: HttpRequest, *args: Any, **kwargs: Any) -> object:
            return (
                request.method,
                request.build_absolute_uri(),
                get_language(),
                timezone.get_current_timezone_name(),
                [request.headers.get(name) for name in headers],
                list(map(str, args)),
                sorted((name, str(value)) for name, value in kwargs.items()),
            )

        @observing(ttl=ttl, deps=deps, key=key)
        @functools.wraps(view)
        def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            with _LookingAfter(request) as looked:
                response = view(request, *args, **kwargs)
                if hasattr(response, "render") and callable(response.render):
                    response = response.render()
            frame = current_frame()
            if looked() or not _is_for_everybody(response, headers):
                if frame is not None:
                    frame.storable = False
                return response
            return (response.status_code, list(response.items()), response.content)

        @functools.wraps(view)
        def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not _may_be_cached(request):
                return view(request, *args, **kwargs)  # type: ignore[no-any-return]
            given = answer(request, *args, **kwargs)
            return _response(*given) if isinstance(given, tuple) else given

        return wrapper

    return decorate


def _may_be_cached(request: HttpRequest) -> bool:
    """False where somebody has looked at the user before: it cannot be seen who does so again."""
    known = hasattr(request, "_cached_user") or hasattr(request, "_acached_user")
    try:
        request.get_host()
    except DisallowedHost:
        return False  # whether that matters is the view's to say
    return (
        request.method in ("GET", "HEAD")
        and not known
        and "authorization" not in request.headers
        and store.cache() is not None
    )


class _LookingAfter:
    """Tells whether a view looks at what belongs to one user."""

    def __init__(self, request: HttpRequest) -> None:
        self.request = request
        self.cookies = Watched(request.COOKIES)
        self.before = request.COOKIES
        self.session = getattr(request, "session", None)
        self.accessed = bool(getattr(self.session, "accessed", False))

    def __enter__(self) -> Callable[[], bool]:
        self.request.COOKIES = self.cookies
        if self.session is not None:
            self.session.accessed = False
        return self._looked

    def __exit__(self, *exc: object) -> None:
        self._found = self._seen()
        self.request.COOKIES = self.before
        if self.session is not None:
            self.session.accessed = self.accessed or self.session.accessed

    def _seen(self) -> bool:
        request = self.request
        return (
            self.cookies.used
            or bool(getattr(self.session, "accessed", False))
            or hasattr(request, "_cached_user")
            or hasattr(request, "_acached_user")
            or bool(request.META.get("CSRF_COOKIE_NEEDS_UPDATE"))
            or "CSRF_COOKIE" in request.META
        )

    def _looked(self) -> bool:
        return self._found


def _is_for_everybody(response: Any, headers: tuple[str, ...]) -> bool:
    if not isinstance(response, HttpResponse) or response.streaming or response.status_code != 200:
        return False
    control = response.get("Cache-Control", "").lower()
    varied = {name.strip().lower() for name in response.get("Vary", "").split(",")} - {""}
    return (
        not response.cookies
        and "private" not in control
        and "no-store" not in control
        and not has_vary_header(response, "Cookie")
        and varied <= {*headers, "accept-language"}
    )


def _response(status: int, headers: list[Any], content: bytes) -> HttpResponse:
    response = HttpResponse(content, status=status)
    for name, value in headers:
        response[name] = value
    return response
