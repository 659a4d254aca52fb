"""Figures that no single query gives."""

from bisect import bisect_left
from itertools import accumulate

from places.models import City
from places.reading import is_off
from zoocache.contrib.django import cached_as


def city_figures(country_id):
    """Return how many people live in a country's cities, and in how many of them half of those."""
    populations = City.objects.filter(country=country_id).values_list("population", flat=True)
    sums = list(accumulate(populations))  # the largest city first
    people = sums[-1] if sums else 0
    return {"people": people, "half_in": bisect_left(sums, people / 2) + 1 if people else 0}


# Computed once for all workers, and again after a city of this country was written.
cached_city_figures = cached_as(lambda country_id: City.objects.filter(country=country_id))(
    city_figures
)


def figures_of(request, country):
    return (city_figures if is_off(request) else cached_city_figures)(country.pk)
