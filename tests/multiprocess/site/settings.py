"""Settings of the site under test. What differs between tests comes in SITE_* variables."""

import json
import os

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = ["things"]
MIDDLEWARE = ["things.middleware.report", "things.barrier.middleware"]
ROOT_URLCONF = "urls"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["SITE_DATABASE"],
        "CONN_MAX_AGE": None,
        "OPTIONS": {"timeout": 20},  # seconds a writer waits for its turn
    }
}
if "SITE_POSTGRES" in os.environ:
    DATABASES["default"] = json.loads(os.environ["SITE_POSTGRES"])
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True

ZOOCACHE = json.loads(os.environ["SITE_ZOOCACHE"])

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "[%(process)d] %(name)s %(levelname)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
}
