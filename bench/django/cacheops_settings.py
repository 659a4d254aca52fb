"""The atlas with django-cacheops for a cache: only for the comparison."""

import os

from atlas.settings import *  # noqa: F403
from atlas.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "cacheops"]
CACHEOPS_REDIS = f"unix://{os.environ['BENCH_REDIS']}?db=3"
CACHEOPS = {"places.*": {"ops": "all", "timeout": 3600}}
