"""Where a view reads from: through the cache, or from the database where ?cache=off says so."""

from functools import wraps

from zoocache.contrib.django import cached, cached_view_as


def is_off(request):
    """Does the address end in ?cache=off?"""
    return request.GET.get("cache") == "off"


def source(request, rows):
    """Return the rows of a model, or of a related manager like `continent.countries`."""
    if isinstance(rows, type):
        return rows.objects if is_off(request) else rows.cached
    return rows if is_off(request) else cached(rows)


def kept(view):
    """Keep the view's whole responses, for everybody, until something changes that they show."""
    keeping = cached_view_as()(view)

    @wraps(view)
    def respond(request, *args, **kwargs):
        return (view if is_off(request) else keeping)(request, *args, **kwargs)

    return respond
