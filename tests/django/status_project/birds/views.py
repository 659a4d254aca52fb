from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from birds.models import Bird


def bird(request: HttpRequest, name: str) -> HttpResponse:
    found = list(Bird.cached.filter(name=name).order_by("name"))
    return HttpResponse(f"{len(found)}")
