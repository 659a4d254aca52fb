"""The status page by its responses: who may see it, what it tells, and what the form drops."""

from __future__ import annotations

import json
import re

from birds.models import Bird
from django.contrib.auth.models import Permission, User
from django.core.cache import caches
from django.test import Client, TransactionTestCase

import zoocache

PAGE = "/admin/zoocache/status/"
DATA = PAGE + "data/"
INVALIDATE = PAGE + "invalidate/"


def user(name, *permissions, **more):
    made = User.objects.create_user(name, password="secret", is_staff=True, **more)
    made.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return made


class Pages(TransactionTestCase):
    def setUp(self):
        zoocache.clear()

    def be(self, *permissions, **more):
        self.user = user("somebody", *permissions, **more)
        self.client.force_login(self.user)

    def data(self, **query):
        response = self.client.get(DATA, query)
        assert response.status_code == 200
        return json.loads(response.content)

    def read(self, name, times=1):
        for _ in range(times):
            self.client.get(f"/birds/{name}/")

    # Who may see it

    def test_nobody_is_sent_to_the_login(self):
        for url in (PAGE, DATA, INVALIDATE):
            response = self.client.get(url)
            self.assertRedirects(response, f"/admin/login/?next={url}")

    def test_staff_without_the_permission_sees_nothing(self):
        self.be()
        self.assertNotContains(self.client.get("/admin/"), "status")
        for url in (PAGE, DATA, INVALIDATE):
            assert self.client.get(url).status_code == 403

    def test_who_is_no_staff_sees_nothing_whatever_the_permissions(self):
        self.be("view_status", "invalidate_status")
        User.objects.update(is_staff=False)
        assert self.client.get(DATA).status_code == 302

    def test_who_may_view_sees_the_page_and_no_form(self):
        self.be("view_status")
        self.assertContains(self.client.get("/admin/"), PAGE)
        response = self.client.get(PAGE)
        self.assertContains(response, 'id="zoo"')
        self.assertNotContains(response, '<form method="post" action="/admin/zoocache')
        assert self.client.post(INVALIDATE, {"what": "tag", "tag": "a"}).status_code == 403

    def test_superusers_see_all(self):
        self.be(is_superuser=True)
        self.assertContains(self.client.get(PAGE), f'action="{INVALIDATE}"')

    def test_the_page_has_no_inline_script_or_style_and_nothing_from_elsewhere(self):
        self.be(is_superuser=True)
        own = self.client.get(PAGE).content.decode()
        for script in re.findall(r"<script[^>]*>", own):
            assert 'src="/static/' in script
        found = re.findall(r"(?i)<style|\sstyle=|\son\w+=|https?://[^\"\s]*", own)
        assert set(found) <= {"http://www.w3.org/2000/svg"}, found

    # What it tells

    def test_what_was_read_is_told(self):
        self.be("view_status")
        Bird.objects.create(name="owl")
        self.read("owl", 3)
        told = self.data()
        assert told["entries"]["fresh"] >= 1
        assert {one["name"] for one in told["logs"]} == {"probation", "main"}
        assert [len(one["fresh"]) for one in told["logs"]] == [64, 64]
        (site,) = [one for one in told["sites"] if one["place"].startswith("birds.views:")]
        assert site["name"] == "birds.Bird"
        assert site["misses"] >= 1
        assert site["hits"] >= 1
        assert site["size"] > 0
        assert sum(told["spans"]["fills"]["counts"]) >= 1
        assert len(told["spans"]["limits"]) == len(told["spans"]["gets"]["counts"])
        assert told["spans"]["limits"][-1] is None
        assert self.client.get(DATA)["Cache-Control"].count("no-store") == 1

    def test_invalidations_are_told_with_their_cause(self):
        self.be("view_status")
        for _ in range(50):
            zoocache.invalidate("feathers")
        Bird.objects.create(name="owl")
        zoocache.invalidate("feathers")
        by_hand, *others = self.data()["dropped"]
        assert (by_hand["names"], by_hand["cause"]) == (["feathers"], "invalidate")
        told = [one["cause"] for one in others if "any write to birds_bird" in one["names"]]
        assert told[0] == "commit"
        assert "feathers" in [one["name"] for one in self.data()["hot_tags"]]

    def test_the_process_is_among_the_workers(self):
        import os

        self.be("view_status")
        mine = [one for one in self.data()["workers"] if one["pid"] == os.getpid()]
        assert len(mine) == 1
        assert mine[0]["own"] > 1 << 20
        assert mine[0]["age"] > 0
        assert mine[0]["stopped"] is False
        assert "test" in mine[0]["command"]

    def test_each_segment_of_the_settings_has_its_page(self):
        self.be(is_superuser=True)
        caches["own"].set("a", "b" * 100)
        response = self.client.get(PAGE)
        self.assertContains(response, "CACHES[&#x27;default&#x27;]")
        own = caches["own"].place.name
        self.assertContains(response, f'href="{PAGE}?segment={own}"')
        assert self.data(segment=own)["entries"]["fresh"] == 1
        assert self.data(segment=own)["size"] == 1 << 20
        assert self.data(segment="no-such")["name"] == self.data()["name"]

    def test_a_setting_that_cannot_be_used_is_told(self):
        self.be("view_status")
        with self.settings(ZOOCACHE={"NAME": "no/name"}):
            assert self.client.get(PAGE).status_code == 200
            assert "name must be" in self.data()["error"]

    def test_a_segment_that_nobody_has_made_is_told_and_not_made(self):
        self.be("view_status")
        zoocache.configure(name=self.data()["name"] + "-none", enabled=False)
        try:
            assert "There is no segment" in self.data()["error"]
        finally:
            zoocache.config.clear_overrides()

    # What it drops

    def send(self, confirmed=False, **given):
        if confirmed:
            given["confirmed"] = "yes"
        return self.client.post(INVALIDATE, given)

    def test_it_asks_before_it_drops(self):
        self.be("view_status", "invalidate_status")
        before = zoocache.stats()["invalidations"]
        response = self.send(what="model", model="birds.Bird")
        self.assertContains(response, "all that was read from birds.Bird")
        self.assertContains(response, 'name="confirmed" value="yes"')
        assert zoocache.stats()["invalidations"] == before
        again = dict(
            re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', response.content.decode())
        )
        again.pop("csrfmiddlewaretoken", None)
        response = self.client.post(INVALIDATE, again, follow=True)
        self.assertContains(response, "Dropped all that was read from birds.Bird.")
        assert zoocache.stats()["invalidations"] > before

    def test_a_model_an_object_and_a_tag(self):
        self.be("view_status", "invalidate_status")
        owl = Bird.objects.create(name="owl")
        calls = []

        @zoocache.cacheable(deps=["feathers"])
        def feathers():
            calls.append(1)
            return 1

        for given in (
            {"what": "model", "model": "birds.Bird"},
            {"what": "object", "model": "birds.Bird", "pk": str(owl.pk)},
        ):
            list(Bird.cached.filter(name="owl"))
            with self.assertNumQueries(0):
                list(Bird.cached.filter(name="owl"))
            self.assertRedirects(self.send(True, **given), PAGE)
            with self.assertNumQueries(1):
                list(Bird.cached.filter(name="owl"))
        feathers()
        self.send(True, what="tag", tag="feathers")
        feathers()
        assert len(calls) == 2

    def test_what_cannot_be_is_said_beside_the_field(self):
        self.be("view_status", "invalidate_status")
        for given, said in (
            ({"what": "model"}, "This is needed."),
            ({"what": "object", "model": "birds.Bird"}, "This is needed."),
            (
                {"what": "object", "model": "birds.Bird", "pk": "owl"},
                "No birds.Bird can have this key.",
            ),
            ({"what": "tag", "tag": "a::b"}, "A tag is one or more non-empty parts"),
            ({"what": "model", "model": "no.Model"}, "Select a valid choice"),
        ):
            before = zoocache.stats()["invalidations"]
            self.assertContains(self.send(True, **given), said)
            assert zoocache.stats()["invalidations"] == before

    def test_another_segment_s_cache_is_dropped_by_its_tag(self):
        self.be("view_status", "invalidate_status")
        own = caches["own"]
        own.set("a", 1)
        page = self.client.get(PAGE, {"segment": own.place.name})
        self.assertContains(page, f'value="{own.tags[0]}"')
        self.send(True, what="tag", tag=own.tags[0], segment=own.place.name)
        assert own.get("a") is None

    def test_it_takes_the_token(self):
        self.be("view_status", "invalidate_status")
        strict = Client(enforce_csrf_checks=True)
        strict.force_login(self.user)
        given = {"what": "tag", "tag": "feathers", "confirmed": "yes"}
        assert strict.post(INVALIDATE, given).status_code == 403

    def test_a_get_drops_nothing(self):
        self.be("view_status", "invalidate_status")
        before = zoocache.stats()["invalidations"]
        response = self.client.get(INVALIDATE, {"what": "tag", "tag": "a", "confirmed": "yes"})
        self.assertRedirects(response, PAGE)
        assert zoocache.stats()["invalidations"] == before
