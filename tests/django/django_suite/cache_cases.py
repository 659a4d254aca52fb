"""Django's own cases of its cache framework, with ZooCache.

test_cache_backend_suite.py copies this file into tests/cache of Django's source. Where Django has
removed a case since, nothing is missed: what is taken is what is there.
"""

import os

from django.core.cache import cache, caches
from django.test import TestCase, override_settings

# Here and not at the first use of a cache: a case may have replaced methods of a connection
# then, which the ORM's hooks, coming with this module's package, would wrap.
from zoocache.contrib.django.cache import ZooCache

from . import tests as django_cases

BACKEND = f"{ZooCache.__module__}.{ZooCache.__qualname__}"
SEGMENT = os.environ["ZOOCACHE_SUITE_SEGMENT"]

# Cases that are not run, each with its argument; the test prints and counts them.
EXCLUDED = {
    "test_cull": (
        "counts what is left, to the entry, when MAX_ENTRIES is exceeded; a segment is bounded by "
        "its bytes, and what it evicts is decided in the core"
    ),
    "test_zero_cull": "the same with CULL_FREQUENCY = 0, which empties the cache",
}


class BaseCases(django_cases.BaseCacheTests):
    def tearDown(self):
        for each in caches.all():  # `clear` leaves what has another KEY_PREFIX alone
            each.clear()


for name in EXCLUDED:
    setattr(BaseCases, name, None)


def settings_for(**params):
    return django_cases.caches_setting_for_tests(BACKEND=BACKEND, **params)


@override_settings(CACHES=settings_for())
class SharedSegmentTests(BaseCases, TestCase):
    """In the segment that all of zoocache in the process uses."""


@override_settings(CACHES=settings_for(LOCATION=SEGMENT, OPTIONS={"SIZE": "4MiB"}))
class OwnSegmentTests(BaseCases, TestCase):
    """In a segment that LOCATION names."""

    def test_incr_decr_keep_the_timeout(self):
        # As LocMemCacheTests.test_incr_decr_timeout, which looks into LocMemCache.
        cache.set("value", 1, timeout=None)
        cache.touch("value", 0.2)
        assert cache.incr("value") == 2
        assert cache.decr("value") == 1
        django_cases.time.sleep(0.3)
        assert cache.get("value") is None


def with_zoocache(case):
    """The case with a ZooCache in the place of each of its caches."""
    changed = {}
    for alias, params in case._overridden_settings["CACHES"].items():
        # Another LOCATION is another cache, to locmem.
        prefix = params.get("KEY_PREFIX", "") + params.get("LOCATION", "")
        changed[alias] = {**params, "BACKEND": BACKEND, "LOCATION": SEGMENT, "KEY_PREFIX": prefix}
    same = type(f"{case.__name__}WithZooCache", (case,), {"__module__": __name__})
    return override_settings(CACHES=changed)(same)


CacheUtilsTests = with_zoocache(django_cases.CacheUtils)
PrefixedUtilsTests = with_zoocache(django_cases.PrefixedCacheUtils)
HEADTests = with_zoocache(django_cases.CacheHEADTest)
I18nTests = with_zoocache(django_cases.CacheI18nTest)
PrefixedI18nTests = with_zoocache(django_cases.PrefixedCacheI18nTest)
MiddlewareTests = with_zoocache(django_cases.CacheMiddlewareTest)
TemplateResponseTests = with_zoocache(django_cases.TestWithTemplateResponse)
