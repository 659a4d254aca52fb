"""What the JSON API says of a city."""

from rest_framework import serializers

from places.models import City, Continent, Country
from zoocache.contrib.django import cacheable_serializer


class ContinentSerializer(serializers.ModelSerializer):
    class Meta:
        model = Continent
        fields = ["code", "name"]


class CountrySerializer(serializers.ModelSerializer):
    class Meta:
        model = Country
        fields = ["code", "name"]


@cacheable_serializer
class CitySerializer(serializers.ModelSerializer):
    """With its country and continent: kept until one of the three is written."""

    country = CountrySerializer()
    continent = ContinentSerializer(source="country.continent")

    class Meta:
        model = City
        fields = ["id", "name", "country", "continent", "population", "timezone", "latitude"]
        fields += ["longitude"]
