"""The pages. Every one reads through `source`: from the cache, or from the database on request."""

from django.db.models import Count
from django.shortcuts import get_object_or_404
from django.views.generic import DetailView, ListView, UpdateView

from places.figures import figures_of
from places.models import City, Continent, Country
from places.reading import source


class ContinentList(ListView):
    """The front page: all continents, and the largest cities of the world."""

    largest = 10

    def get_queryset(self):
        return source(self.request, Continent).annotate(country_count=Count("countries"))

    def get_context_data(self, **kwargs):
        cities = source(self.request, City).select_related("country")[: self.largest]
        return super().get_context_data(city_list=cities, **kwargs)


class ContinentDetail(ListView):
    """One continent, with all its countries."""

    template_name = "places/continent_detail.html"

    def get_queryset(self):
        continents = source(self.request, Continent)
        self.continent = get_object_or_404(continents, code=self.kwargs["code"].upper())
        return source(self.request, self.continent.countries).all()

    def get_context_data(self, **kwargs):
        return super().get_context_data(continent=self.continent, **kwargs)


class CountryList(ListView):
    paginate_by = 50

    def get_queryset(self):
        return source(self.request, Country).select_related("continent")


class CountryDetail(ListView):
    """One country, with its cities: the largest first, page by page."""

    template_name = "places/country_detail.html"
    paginate_by = 25

    def get_queryset(self):
        countries = source(self.request, Country).select_related("continent")
        self.country = get_object_or_404(countries, code=self.kwargs["code"].upper())
        return source(self.request, City).filter(country=self.country)

    def get_context_data(self, **kwargs):
        figures = figures_of(self.request, self.country)
        return super().get_context_data(country=self.country, figures=figures, **kwargs)


class CityDetail(DetailView):
    def get_queryset(self):
        return source(self.request, City).select_related("country__continent")


class CitySearch(ListView):
    """The cities whose name contains the text that was asked for."""

    template_name = "places/city_search.html"
    paginate_by = 25

    def get_queryset(self):
        self.text = self.request.GET.get("q", "").strip()
        cities = source(self.request, City).select_related("country")
        return cities.filter(name__icontains=self.text) if self.text else cities.none()

    def get_context_data(self, **kwargs):
        return super().get_context_data(text=self.text, **kwargs)


class CityEdit(UpdateView):
    """The form for one city. What is about to be changed is read from the database itself."""

    queryset = City.objects.select_related("country")
    fields = ["name", "country", "population", "timezone"]
