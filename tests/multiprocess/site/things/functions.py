"""Functions with `@cacheable`."""

from things.barrier import reach
from things.models import Thing
from zoocache import add_deps, cacheable


@cacheable(deps=lambda pk: [f"Thing:{pk}"])
def declared(pk):
    """Says itself what it depends on: the ORM is read past the cache."""
    reach("function:begun")
    value = Thing.objects.get(pk=pk).value
    reach("function:read")
    return value


@cacheable()
def added(pk):
    value = Thing.objects.values_list("value", flat=True).get(pk=pk)
    reach("function:read")
    add_deps([f"things.Thing:{pk}"])
    return value


@cacheable()
def tracked(pk):
    """Depends on what the cached queries inside depend on."""
    value = Thing.cached.get(pk=pk).value
    reach("function:read")
    return value


@cacheable()
def outer(pk):
    value = tracked(pk)
    reach("outer:read")
    return value
