"""Addresses of the pages and of the JSON API."""

from django.urls import path, register_converter
from django.urls.converters import IntConverter

from places import api, views
from places.reading import kept


class GeoNamesId(IntConverter):
    regex = "[0-9]{1,18}"  # what the database can hold; Django 4.2 fails on more


register_converter(GeoNamesId, "id")

urlpatterns = [
    path("", kept(views.ContinentList.as_view()), name="continents"),
    path("continents/<str:code>/", views.ContinentDetail.as_view(), name="continent"),
    path("countries/", kept(views.CountryList.as_view()), name="countries"),
    path("countries/<str:code>/", views.CountryDetail.as_view(), name="country"),
    path("cities/<id:pk>/", views.CityDetail.as_view(), name="city"),
    path("cities/<id:pk>/edit/", views.CityEdit.as_view(), name="city-edit"),
    path("search/", views.CitySearch.as_view(), name="search"),
    path("api/cities/<id:pk>/", api.CityApi.as_view(), name="api-city"),
    path("api/countries/<str:code>/cities/", api.CountryCitiesApi.as_view(), name="api-country"),
    path("api/stats/", api.StatsApi.as_view(), name="api-stats"),
]
