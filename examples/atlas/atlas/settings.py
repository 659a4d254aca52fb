"""Settings of the atlas site: stock Django, SQLite and one shared cache.

ATLAS_DATA   the folder of the database (default: var/ beside manage.py)
ATLAS_CACHE  the name of the shared cache (default: atlas)
ATLAS_SIZE   its size (default: 64MiB)
"""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(os.environ.get("ATLAS_DATA", BASE_DIR / "var"))

SECRET_KEY = os.environ.get("ATLAS_SECRET_KEY", "an example without secrets: never deploy this key")
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "zoocache.contrib.django",  # for its template tag, its checks and `manage.py zoocache`
    "places",
]

MIDDLEWARE = [
    "atlas.middleware.name_the_worker",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "atlas.urls"
WSGI_APPLICATION = "atlas.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA_DIR / "atlas.sqlite3",
        "CONN_MAX_AGE": None,
        "OPTIONS": {"timeout": 20},  # seconds a writer waits for its turn
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# One segment of shared memory for every worker on this host.
ZOOCACHE = {
    "NAME": os.environ.get("ATLAS_CACHE", "atlas"),
    "SIZE": os.environ.get("ATLAS_SIZE", "64MiB"),
    # Not our model: the admin asks on each page what its user may do.
    "MODELS": {"auth.Permission": {}},
}

LANGUAGE_CODE = "en"
USE_I18N = False
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
