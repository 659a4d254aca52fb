"""Prepares each process of the site, before its first request."""

import os

from django.apps import AppConfig


class ThingsConfig(AppConfig):
    name = "things"

    def ready(self):
        from things import barrier, mutations
        from zoocache import points, store

        points.install(barrier.reach)
        store.RETRY_SECONDS = float(os.environ.get("SITE_RETRY_SECONDS", store.RETRY_SECONDS))
        mutation = os.environ.get("SITE_MUTATION")
        if mutation:
            mutations.BY_NAME[mutation]()
