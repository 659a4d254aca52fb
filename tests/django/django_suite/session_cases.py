"""Django's own cases of its cached sessions, with ZooCache: for tests/sessions_tests."""

import os

from django.test import override_settings

from . import tests as django_cases

CACHES = {
    "default": {
        "BACKEND": "zoocache.contrib.django.cache.ZooCache",
        "LOCATION": os.environ["ZOOCACHE_SUITE_SEGMENT"],
    }
}


@override_settings(CACHES=CACHES)
class CacheSessionTests(django_cases.CacheSessionTests):
    pass


@override_settings(CACHES=CACHES)
class CacheDBSessionTests(django_cases.CacheDBSessionTests):
    pass
