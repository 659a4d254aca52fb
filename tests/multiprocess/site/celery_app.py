"""The entry point for Celery."""

import django

django.setup()

from things.tasks import app  # noqa: E402, F401
