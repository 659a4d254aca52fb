"""Tests of the site: python manage.py test"""

# ruff: noqa: PT009 (Django's test runner does not explain a bare assert as pytest does)

import os
from io import StringIO

from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.db import connection
from django.test import Client, TestCase
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

import zoocache
from places.figures import city_figures
from places.models import City, Continent, Country

PARIS = 2988507
PEOPLE = 2_000_000 + sum(20_000 + number for number in range(10, 40))  # in the cities of France


def population_is(number):
    return {"data": {"population": number}, "content_type": "application/json"}


class AtlasTest(TestCase):
    @classmethod
    def setUpTestData(cls):
        europe = Continent.objects.create(id=1, code="EU", name="Europe", population=741_000_000)
        cls.france = Country.objects.create(
            id=2,
            continent=europe,
            code="FR",
            name="France",
            area_km2=547_030,
            population=67_000_000,
        )
        place = {"country": cls.france, "timezone": "Europe/Paris", "latitude": 1, "longitude": 2}
        City.objects.create(id=PARIS, name="Paris", population=2_000_000, **place)
        City.objects.bulk_create(
            City(id=number, name=f"Ville {number}", population=20_000 + number, **place)
            for number in range(10, 40)
        )

    def assert_error(self, response, status, text):
        self.assertEqual(response.status_code, status)
        self.assertIn(text, response.json()["error"])


class PagesTest(AtlasTest):
    def test_every_page_is_the_same_with_and_without_the_cache(self):
        addresses = {
            "/": "1 country",
            "/continents/EU/": "France",
            "/countries/": "France",
            "/countries/fr/": f'data-city="{PARIS}" data-population="2000000"',
            "/countries/FR/?page=2": "Page 2 of 2",
            f"/cities/{PARIS}/": f'data-city="{PARIS}" data-population="2000000"',
            "/search/": "Type a part of a name",
            "/search/?q=pari": "1 found",
            "/search/?q=nowhere": "There is none",
        }
        for address, text in addresses.items():
            with self.subTest(address):
                cached = self.client.get(address)
                self.assertContains(cached, text)
                self.assertContains(cached, "GeoNames")
                self.assertEqual(cached.headers["X-Worker"], str(os.getpid()))
                separator = "&" if "?" in address else "?"
                uncached = self.client.get(f"{address}{separator}cache=off")
                expected = main_part(cached).replace("?page=", "?cache=off&amp;page=")
                self.assertHTMLEqual(main_part(uncached), expected)

    def test_what_is_not_there_is_a_404(self):
        for address in [
            "/cities/1/",
            f"/cities/{10**30}/",
            "/countries/XX/",
            "/continents/XX/",
            "/countries/FR/?page=3",
        ]:
            with self.subTest(address):
                response = self.client.get(address)
                self.assertContains(response, "There is no such place", status_code=404)

    def test_the_search_keeps_its_text_from_page_to_page(self):
        response = self.client.get("/search/?q=ville")
        self.assertContains(response, 'href="?q=ville&amp;page=2"')

    def test_a_name_is_escaped(self):
        City.objects.filter(pk=PARIS).update(name="<b>Paris")
        self.assertContains(self.client.get(f"/cities/{PARIS}/"), "&lt;b&gt;Paris")

    def test_an_edit_shows_on_every_page_of_the_city(self):
        pages = ["/", f"/cities/{PARIS}/", "/cities/10/", "/countries/FR/", "/search/?q=paris"]
        for page in pages:
            self.assertNotContains(self.client.get(page), 'data-population="2000001"')
        form = {"name": "Paris", "country": 2, "population": 2_000_001, "timezone": "Europe/Paris"}
        response = self.client.post(f"/cities/{PARIS}/edit/", form)
        self.assertRedirects(response, f"/cities/{PARIS}/")
        for page in pages:
            self.assertContains(self.client.get(page), 'data-population="2000001"')
        self.assertContains(self.client.get("/countries/FR/"), f'data-people="{PEOPLE + 1}"')

    def test_what_was_read_before_takes_no_query(self):
        for address in [
            "/",
            "/continents/EU/",
            "/countries/",
            "/countries/FR/?page=2",
            f"/cities/{PARIS}/",
            "/search/?q=ville",
            f"/api/cities/{PARIS}/",
            "/api/countries/FR/cities/",
        ]:
            with self.subTest(address):
                self.client.get(address)
                with self.assertNumQueries(0):
                    self.client.get(address)
                separator = "&" if "?" in address else "?"
                with CaptureQueriesContext(connection) as captured:
                    self.client.get(f"{address}{separator}cache=off")
                self.assertTrue(captured)

    def test_half_of_the_people_in_cities(self):
        self.assertContains(self.client.get("/countries/FR/"), "half of them in the largest")
        City.objects.filter(pk=PARIS).delete()
        self.assertContains(self.client.get("/countries/FR/"), "half of them in the 15 largest")
        City.objects.all().delete()
        self.assertEqual(city_figures(self.france.pk), {"people": 0, "half_in": 0})
        self.assertContains(self.client.get("/countries/FR/"), 'data-people="0"')

    def test_an_edit_that_makes_no_sense_is_shown_again(self):
        form = {"name": "", "country": 2, "population": -1, "timezone": "Europe/Paris"}
        response = self.client.post(f"/cities/{PARIS}/edit/", form)
        self.assertContains(response, "This field is required")
        self.assertContains(response, "greater than or equal to 0")

    def test_the_form_is_safe_from_other_sites(self):
        strict = Client(enforce_csrf_checks=True)
        self.assertEqual(strict.post(f"/cities/{PARIS}/edit/", {}).status_code, 403)

    def test_the_admin_has_all_three(self):
        self.client.force_login(User.objects.create_superuser("admin"))
        for model in ("continent", "country", "city"):
            page = self.client.get(reverse(f"admin:places_{model}_changelist"))
            self.assertEqual(page.status_code, 200)
        self.assertContains(self.client.get(f"/admin/places/city/{PARIS}/change/"), "Paris")

    def test_a_permission_counts_until_it_is_taken_away(self):
        clerks = Group.objects.create(name="clerks")
        clerks.permissions.add(Permission.objects.get(codename="view_city"))
        clerk = User.objects.create_user("clerk", is_staff=True)
        clerk.groups.add(clerks)
        self.client.force_login(clerk)
        for asked in (True, False):
            with CaptureQueriesContext(connection) as captured:
                self.assertEqual(self.client.get("/admin/places/city/").status_code, 200)
            queries = [query["sql"] for query in captured]
            self.assertEqual(any("auth_group_permissions" in sql for sql in queries), asked)
        clerks.permissions.clear()
        self.assertEqual(self.client.get("/admin/places/city/").status_code, 403)

    def test_the_style_sheet_needs_no_other_server(self):
        style = self.client.get("/static/places/atlas.css")
        self.addCleanup(style.close)
        self.assertNotContains(style, "http")


class ApiTest(AtlasTest):
    address = f"/api/cities/{PARIS}/"

    def test_a_city(self):
        city = self.client.get(self.address).json()
        self.assertEqual(city["population"], 2_000_000)
        self.assertEqual(city["country"], {"code": "FR", "name": "France"})
        self.assertEqual(city["continent"], {"code": "EU", "name": "Europe"})

    def test_the_cities_of_a_country(self):
        first = self.client.get("/api/countries/fr/cities/").json()
        self.assertEqual((first["count"], first["page"], first["pages"]), (31, 1, 2))
        self.assertEqual(first["people"], PEOPLE)
        self.assertEqual(
            first["results"][0], {"id": PARIS, "name": "Paris", "population": 2_000_000}
        )
        second = self.client.get("/api/countries/FR/cities/?page=2").json()
        self.assertEqual(len(first["results"] + second["results"]), 31)

    def test_patch_and_post_change_the_population_without_a_token(self):
        strict = Client(enforce_csrf_checks=True)
        for number, method in enumerate((strict.patch, strict.post), start=3_000_000):
            response = method(self.address, **population_is(number))
            self.assertEqual(response.json()["population"], number)
            self.assertEqual(self.client.get(self.address).json()["population"], number)

    def test_stats_are_whole_numbers_of_the_host(self):
        stats = self.client.get("/api/stats/").json()
        self.assertEqual(stats["pid"], os.getpid())
        self.assertLessEqual({"hits", "misses"}, stats["cache"].keys())

    def test_what_is_not_there(self):
        self.assert_error(self.client.get("/api/cities/1/"), 404, "No City")
        self.assert_error(self.client.patch("/api/cities/1/", **population_is(1)), 404, "No City")
        self.assert_error(self.client.get("/api/countries/XX/cities/"), 404, "No Country")
        for page in ("3", "0", "x", ""):
            response = self.client.get("/api/countries/FR/cities/", {"page": page})
            self.assert_error(response, 404, "no such page of France")

    def test_a_population_that_is_none(self):
        for number in (-1, 2**31, 1.5, True, "12", None, [1]):
            with self.subTest(number):
                response = self.client.patch(self.address, **population_is(number))
                self.assertEqual(response.status_code, 400)
                self.assertTrue(response.json()["error"])

    def test_a_body_that_is_no_json_object(self):
        for body in (b"", b"{", b"\xff", b"[]", b"12", b"{}", b"[" * 100_000):
            with self.subTest(body[:10]):
                response = self.client.post(self.address, body, content_type="application/json")
                self.assertEqual(response.status_code, 400)
                self.assertTrue(response.json()["error"])
        response = self.client.post(self.address, '{"population": 1}', content_type="text/plain")
        self.assert_error(response, 400, "Content-Type")
        self.assertEqual(City.objects.get(pk=PARIS).population, 2_000_000)

    def test_a_method_that_is_not_offered(self):
        response = self.client.delete(self.address)
        self.assert_error(response, 405, "DELETE")
        self.assertIn("PATCH", response.headers["Allow"])


class WhyTest(AtlasTest):
    def why(self, text):
        out = StringIO()
        call_command("zoocache", "why", text, stdout=out)
        return out.getvalue()

    def test_it_tells_whether_the_query_of_a_page_is_a_hit(self):
        query = f'City.cached.select_related("country__continent").get(pk={PARIS})'
        for address in (f"/cities/{PARIS}/", f"/api/cities/{PARIS}/"):
            zoocache.clear()
            self.client.get(address)
            self.assertIn("places.City: a hit", self.why(query))
        City.objects.filter(pk=PARIS).update(population=5)
        self.assertIn("a miss: it was invalidated", self.why(query))

    def test_it_tells_what_dropped_a_city(self):
        self.client.get(f"/api/cities/{PARIS}/")
        self.client.patch(f"/api/cities/{PARIS}/", **population_is(5))
        self.assertIn(f"process {os.getpid()} (commit)", self.why(f"City:{PARIS}"))


class LoadPlacesTest(TestCase):
    def test_loading_twice_sets_every_place_back_and_doubles_none(self):
        call_command("load_places", stdout=StringIO())
        count = City.objects.count()
        self.assertGreater(count, 20_000)
        City.objects.filter(pk=PARIS).update(name="Lutetia")
        call_command("load_places", "--if-empty", stdout=StringIO())
        self.assertEqual(City.objects.get(pk=PARIS).name, "Lutetia")
        call_command("load_places", stdout=StringIO())
        self.assertEqual(City.objects.get(pk=PARIS).name, "Paris")
        self.assertEqual(City.objects.count(), count)


def main_part(response):
    return response.content.decode().partition("<main")[2].partition("</main>")[0]
