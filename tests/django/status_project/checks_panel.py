"""The panel of django-debug-toolbar tells what the cache had for a request."""

from __future__ import annotations

from birds.models import Bird
from debug_toolbar.toolbar import DebugToolbar
from django.db import transaction
from django.http import HttpResponse
from django.test import RequestFactory, TransactionTestCase, override_settings
from django.urls import include, path

import zoocache
from zoocache import local, notices
from zoocache.contrib.django.debug_toolbar import ZooCachePanel

urlpatterns = [path("__debug__/", include("debug_toolbar.urls"))]


@zoocache.cacheable()
def answer():
    return [42]


@override_settings(
    ROOT_URLCONF="checks_panel",
    DEBUG_TOOLBAR_PANELS=["zoocache.contrib.django.debug_toolbar.ZooCachePanel"],
)
class Panels(TransactionTestCase):
    def setUp(self):
        zoocache.clear()
        Bird.objects.create(name="owl")

    def panel_of(self, view):
        """The panel after a request that the view answers, as the toolbar's middleware has it."""

        def get_response(request):
            view()
            return HttpResponse()

        request = RequestFactory().get("/")
        toolbar = DebugToolbar(request, get_response)
        (panel,) = [one for one in toolbar.panels if isinstance(one, ZooCachePanel)]
        panel.enable_instrumentation()
        try:
            response = panel.process_request(request)
        finally:
            panel.disable_instrumentation()
        panel.generate_stats(request, response)
        return panel

    def owls(self):
        return list(Bird.cached.filter(name="owl"))

    def test_misses_hits_and_what_dropped_an_entry(self):
        panel = self.panel_of(lambda: [self.owls(), self.owls()])
        missed, found = panel.get_stats()["queries"]
        assert (missed["kind"], found["kind"]) == ("miss", "hit")
        assert missed["name"] == "birds.Bird"
        assert missed["place"].startswith("checks_panel:")
        assert missed["ms"] > 0
        assert "any write to birds_bird" in missed["tags"]
        assert "SELECT" in missed["sql"]
        assert missed["params"] == "('owl',)"
        assert panel.nav_subtitle.startswith("1 hits, 1 misses, 0 bypasses, ")
        Bird.objects.create(name="owl")
        (stale,) = self.panel_of(self.owls).get_stats()["queries"]
        assert stale["why"] == "a miss: it was invalidated"
        assert any("(commit)" in cause for cause in stale["causes"])

    def test_a_bypass_has_its_reason(self):
        def view():
            with transaction.atomic():
                Bird.objects.create(name="kiwi")
                self.owls()

        (bypassed,) = self.panel_of(view).get_stats()["queries"]
        assert bypassed["kind"] == "bypass"
        assert "the transaction has written to a table of it" in bypassed["why"]
        assert bypassed["ms"] > 0

    def test_functions_are_told(self):
        panel = self.panel_of(lambda: [answer(), answer()])
        missed, found = panel.get_stats()["functions"]
        assert missed["why"].startswith("a miss, stored in ")
        assert found["why"] == "a hit"
        assert found["name"] == "checks_panel.answer"

    def test_it_is_drawn(self):
        drawn = self.panel_of(lambda: [self.owls(), answer()]).content
        for text in ("birds.Bird", "checks_panel.answer", "any write to birds_bird", "a miss:"):
            assert text in drawn, drawn
        assert "Nothing was read" in self.panel_of(lambda: None).content

    def test_nobody_watches_afterwards(self):
        before = set(local.busy)
        self.panel_of(self.owls)
        assert local.busy == before
        assert notices.reads == []
