"""The JSON API. Errors are JSON too: {"error": "what is wrong"}."""

import json
import os

from django.core.exceptions import ValidationError
from django.core.paginator import InvalidPage, Paginator
from django.http import Http404, JsonResponse
from django.shortcuts import get_object_or_404
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt

import zoocache
from places.figures import figures_of
from places.models import City, Country
from places.reading import is_off, source
from places.serializers import CitySerializer
from zoocache.contrib.django.snapshots import snapshot


class ApiView(View):
    """A view that turns the exceptions of a bad request into JSON."""

    def dispatch(self, request, *args, **kwargs):
        try:
            return super().dispatch(request, *args, **kwargs)
        except Http404 as error:
            return JsonResponse({"error": str(error)}, status=404)
        except ValidationError as error:
            return JsonResponse({"error": " ".join(error.messages)}, status=400)

    def http_method_not_allowed(self, request, *args, **kwargs):
        allowed = super().http_method_not_allowed(request, *args, **kwargs).headers["Allow"]
        message = f"{request.method} is not possible here, only {allowed}."
        return JsonResponse({"error": message}, status=405, headers={"Allow": allowed})


# There is no session to protect, and the body must be JSON, which no foreign form can send.
@method_decorator(csrf_exempt, name="dispatch")
class CityApi(ApiView):
    """GET shows one city; PATCH or POST {"population": 123} changes its population."""

    def get(self, request, pk):
        cities = source(request, City).select_related("country__continent")
        city = get_object_or_404(cities, pk=pk)
        return JsonResponse(CitySerializer(city, cached=not is_off(request)).data)

    def patch(self, request, pk):
        population = population_in(request)
        city = get_object_or_404(City.objects.select_related("country__continent"), pk=pk)
        city.population = population
        # Saving every column tells zoocache that the city is still in the country it was in, so
        # the cached lists of all other countries stay. With update_fields=["population"] they
        # would have to go: another worker may have moved the city in the meantime.
        city.save()
        return JsonResponse(CitySerializer(city, cached=False).data)

    post = patch


class CountryCitiesApi(ApiView):
    """The cities of one country, largest first."""

    page_size = 25

    @method_decorator(snapshot())  # the sum, the count and the rows are of one moment
    def get(self, request, code):
        country = get_object_or_404(source(request, Country), code=code.upper())
        pages = Paginator(source(request, City).filter(country=country), self.page_size)
        try:
            page = pages.page(request.GET.get("page", 1))
        except InvalidPage as error:
            raise Http404(f"There is no such page of {country}: {error}.") from error
        return JsonResponse(
            {
                "country": {"code": country.code, "name": country.name},
                "people": figures_of(request, country)["people"],
                "count": pages.count,
                "page": page.number,
                "pages": pages.num_pages,
                "results": [
                    {"id": city.pk, "name": city.name, "population": city.population}
                    for city in page
                ],
            }
        )


class StatsApi(ApiView):
    """What the cache has counted: on the whole host, whichever worker is asked."""

    def get(self, request):
        return JsonResponse({"pid": os.getpid(), "cache": zoocache.stats()})


def population_in(request):
    """Return the population that the body of the request asks for, or raise ValidationError."""
    if request.content_type != "application/json":
        raise ValidationError("Send JSON, with the header Content-Type: application/json.")
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError) as error:  # the latter: brackets a thousand deep
        raise ValidationError(f"The body is not JSON: {error}.") from error
    population = body.get("population") if isinstance(body, dict) else None
    if type(population) is not int:  # a bool, a float and "12" are not counts of people
        raise ValidationError('Send an object with a whole number: {"population": 123}.')
    field = City._meta.get_field("population")
    field.run_validators(population)
    return population
