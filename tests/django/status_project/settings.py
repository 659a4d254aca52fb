"""Settings of a project with the admin, which keeps browsers from all that is not its own."""

from __future__ import annotations

import importlib.util
import os

SECRET_KEY = "not a secret"
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "urls"
USE_TZ = True
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "zoocache.contrib.django",
    "birds",
    *(["debug_toolbar"] if importlib.util.find_spec("debug_toolbar") else []),
]
SILENCED_SYSTEM_CHECKS = ["debug_toolbar.W001"]  # its panel is tested without it
MIDDLEWARE = [
    "birds.strictly",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
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
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
CACHES = {
    "default": {"BACKEND": "zoocache.contrib.django.cache.ZooCache", "KEY_PREFIX": "birds"},
    "own": {
        "BACKEND": "zoocache.contrib.django.cache.ZooCache",
        "LOCATION": os.environ["ZOOCACHE_NAME"] + "-own",
        "OPTIONS": {"SIZE": "1MiB"},
    },
    "memory": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
}
