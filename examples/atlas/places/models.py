"""Continents, countries and cities.

The only trace of zoocache is the manager: it behaves as Django's own, and adds `Model.cached`.
"""

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.urls import reverse

from zoocache.contrib.django import ZooCacheManager

MAX_POPULATION = 2**31 - 1


class Continent(models.Model):
    """A continent; its primary key is its GeoNames id."""

    id = models.PositiveIntegerField("GeoNames id", primary_key=True)
    code = models.CharField(max_length=2, unique=True)
    name = models.CharField(max_length=100)
    population = models.PositiveBigIntegerField()

    objects = ZooCacheManager()

    class Meta:
        ordering = ["name"]

    def __str__(self):
        return self.name

    def get_absolute_url(self):
        return reverse("continent", args=[self.code])


class Country(models.Model):
    """A country or territory with an ISO 3166 code; its primary key is its GeoNames id."""

    id = models.PositiveIntegerField("GeoNames id", primary_key=True)
    continent = models.ForeignKey(Continent, on_delete=models.CASCADE, related_name="countries")
    code = models.CharField(max_length=2, unique=True)
    name = models.CharField(max_length=100)
    capital = models.CharField(max_length=100, blank=True)
    currency = models.CharField(max_length=50, blank=True)
    area_km2 = models.FloatField("area in km²")
    population = models.PositiveBigIntegerField()

    objects = ZooCacheManager()

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "countries"

    def __str__(self):
        return self.name

    def get_absolute_url(self):
        return reverse("country", args=[self.code])

    def largest_cities(self):
        return self.cities.all()[:5]


class City(models.Model):
    """A city of 15,000 people or more; its primary key is its GeoNames id."""

    id = models.PositiveIntegerField("GeoNames id", primary_key=True)
    country = models.ForeignKey(Country, on_delete=models.CASCADE, related_name="cities")
    name = models.CharField(max_length=200)
    population = models.PositiveIntegerField(
        validators=[MinValueValidator(0), MaxValueValidator(MAX_POPULATION)]
    )
    timezone = models.CharField(max_length=50)
    latitude = models.FloatField()
    longitude = models.FloatField()

    objects = ZooCacheManager()

    class Meta:
        ordering = ["-population", "id"]
        indexes = [
            models.Index(fields=["country", "-population"], name="city_by_country_size"),
            models.Index(fields=["-population", "id"], name="city_by_size"),
        ]
        verbose_name_plural = "cities"

    def __str__(self):
        return self.name

    def get_absolute_url(self):
        return reverse("city", args=[self.pk])
