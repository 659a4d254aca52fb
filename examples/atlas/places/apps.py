"""The app and the one thing it asks of SQLite."""

from django.apps import AppConfig
from django.db.backends.signals import connection_created


class PlacesConfig(AppConfig):
    name = "places"

    def ready(self):
        connection_created.connect(use_write_ahead_log)


def use_write_ahead_log(connection, **kwargs):
    """Let readers go on while another worker writes."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA synchronous = NORMAL")
