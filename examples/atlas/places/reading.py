"""Where a view reads from."""


def source(request, model):
    """Return the cached manager of `model`, or the plain one if the address ends in ?cache=off."""
    return model.objects if request.GET.get("cache") == "off" else model.cached
