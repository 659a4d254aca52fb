"""What a page of the documentation takes for granted. Its own settings are written below this."""

SECRET_KEY = "x"
USE_TZ = True
ALLOWED_HOSTS = ["testserver"]
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "zoocache.contrib.django",
    "shop",
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "page.sqlite3"}}
TEMPLATES = [
    {"BACKEND": "django.template.backends.django.DjangoTemplates", "DIRS": ["templates"]},
]
REST_FRAMEWORK = {"UNAUTHENTICATED_USER": None}
