"""Settings for Django's own cases of its ORM: every manager gives recipes, each asked three times.

Counts of queries aside: assertNumQueries counts nothing.
"""

import atexit
import sys
import unittest.case
from collections import Counter

from django.db.models.manager import BaseManager
from django.test.testcases import _AssertNumQueriesContext
from django.test.utils import CaptureQueriesContext
from test_sqlite import *  # noqa: F403 - Django's own of that release

from zoocache.contrib.django import lazy, plans, starting
from zoocache.contrib.django.queryset import caching_class

answer, find = lazy.LazyQuerySet._answer, plans.find
found: Counter[bool] = Counter()


def get_queryset(self):
    kind = caching_class(self._queryset_class)
    return starting.start(kind, self.model, self._db, self._hints, None)


def thrice(self, question):
    """The shape's plan is learnt, then its rows are stored, then they are found."""
    if self._recipe is not None:
        answer(self, question)
        answer(self, question)
    return answer(self, question)


def counting(*args):
    result = find(*args)
    found[result is not None] += 1
    return result


class CountingNear:
    def __init__(self, near):
        self.near = near

    def find(self, *args):
        return self.counted(self.near.find(*args))

    def answer(self, queryset):
        return self.counted(self.near.answer(queryset))

    def counted(self, result):
        found[True] += result is not None
        return result


BaseManager.get_queryset = get_queryset
lazy.LazyQuerySet._answer, plans.find = thrice, counting
lazy._at_hand = lambda queryset: None
for question in (plans.ROWS, plans.COUNT, plans.EXISTS):
    question.near = CountingNear(question.near)
_AssertNumQueriesContext.__exit__ = CaptureQueriesContext.__exit__
# Of a case that failed, Django's repr of a queryset may fail, too, and hide all the others.
unittest.case._SubTest._subDescription = lambda self: ""
atexit.register(lambda: print(f"hits={found[True]} misses={found[False]}", file=sys.stderr))
