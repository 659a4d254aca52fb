"""The project that django-stubs' plugin looks at, see mypy.ini."""

SECRET_KEY = "not one"
INSTALLED_APPS = ["django.contrib.contenttypes", "stall", "zoocache.contrib.django"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
