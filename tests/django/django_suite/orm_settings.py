"""Settings for Django's own cases of its ORM: every queryset is cached, every read is read twice.

Counts of queries aside: assertNumQueries counts nothing.
"""

import atexit
import sys
import unittest.case
from collections import Counter

from django.db.models.sql.compiler import SQLCompiler
from django.test.testcases import _AssertNumQueriesContext
from django.test.utils import CaptureQueriesContext
from test_sqlite import *  # noqa: F403 - Django's own of that release

from zoocache.contrib.django import reading
from zoocache.contrib.django.footprint import twin_of
from zoocache.contrib.django.writing import WRITE_COMPILERS

ZOOCACHE = {"EVERYTHING": True}

execute_sql, look_up = SQLCompiler.execute_sql, reading.look_up
looked_up: Counter[bool] = Counter()


def execute_twice(self, result_type="multi", chunked_fetch=False, **kwargs):
    """What a second reader gets: the entry that the first one left, if it left one."""
    if not (chunked_fetch or isinstance(self, WRITE_COMPILERS)):
        execute_sql(twin_of(self), result_type, **kwargs)
    return execute_sql(self, result_type, chunked_fetch, **kwargs)


def counting(*args, **kwargs):
    found = look_up(*args, **kwargs)
    looked_up[found is not None] += 1
    return found


SQLCompiler.execute_sql, reading.look_up = execute_twice, counting
_AssertNumQueriesContext.__exit__ = CaptureQueriesContext.__exit__
# Of a case that failed, Django's repr of a queryset may fail, too, and hide all the others.
unittest.case._SubTest._subDescription = lambda self: ""
atexit.register(lambda: print(f"hits={looked_up[True]} misses={looked_up[False]}", file=sys.stderr))
