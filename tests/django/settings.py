"""Settings of the test shop: two SQLite files, and PostgreSQL where there is a server.

`default` is in WAL mode and `other` keeps a rollback journal (see conftest.py). The
databases are made anew for each worker process of the test run.
"""

import os
import tempfile

from shop.servers import find_postgres

FOLDER = tempfile.mkdtemp(prefix="zoocache-shop-")
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "gw")
POSTGRES = find_postgres()

SECRET_KEY = "not a secret"
DEBUG = False
USE_TZ = True
TIME_ZONE = "Europe/Paris"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.contenttypes", "zoocache.contrib.django", "shop"]
MIGRATION_MODULES = {"contenttypes": None}  # in one go with the shop's, which refers to it
DATABASE_ROUTERS = ["shop.routing.Router"]
ROOT_URLCONF = "shop.urls"
ALLOWED_HOSTS = ["testserver"]
REST_FRAMEWORK = {"UNAUTHENTICATED_USER": None}
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {
            "loaders": [("django.template.loaders.locmem.Loader", {"shop/product_list.html": ""})]
        },
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.path.join(FOLDER, "default.sqlite3"),
        "OPTIONS": {"timeout": 10},
    },
    "other": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.path.join(FOLDER, "other.sqlite3"),
        "OPTIONS": {"timeout": 10},
    },
}
if POSTGRES:
    DATABASES["pg"] = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": f"zoocache_{os.getpid()}_{WORKER}",
        **POSTGRES,
    }
