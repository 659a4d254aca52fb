"""manage.py set_value <pk> <value>: a write from a process that serves no requests."""

from django.core.management.base import BaseCommand

from things.views import save


class Command(BaseCommand):
    def add_arguments(self, parser):
        parser.add_argument("pk", type=int)
        parser.add_argument("value", type=int)

    def handle(self, pk, value, **options):
        save(pk, value)
