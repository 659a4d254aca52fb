"""Django's admin. It reads through the default manager, so it never sees a cached row."""

from django.contrib import admin

from places.models import City, Continent, Country


@admin.register(Continent)
class ContinentAdmin(admin.ModelAdmin):
    list_display = ["name", "code", "population"]


@admin.register(Country)
class CountryAdmin(admin.ModelAdmin):
    list_display = ["name", "code", "continent", "capital", "population"]
    list_filter = ["continent"]
    list_select_related = ["continent"]
    search_fields = ["name", "code"]


@admin.register(City)
class CityAdmin(admin.ModelAdmin):
    autocomplete_fields = ["country"]
    list_display = ["name", "country", "population", "timezone"]
    list_select_related = ["country"]
    search_fields = ["name"]
