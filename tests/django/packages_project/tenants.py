"""Two tenants of django-tenants, whose rows have the same keys: with a SCOPE, or without one.

Prints which reads differed, and how many hits there were.
"""

from __future__ import annotations

import json
import sys

import django
from django.conf import settings

if not settings.configured:
    settings.configure(
        DATABASES={
            "default": {"ENGINE": "django_tenants.postgresql_backend", **json.loads(sys.argv[1])}
        },
        DATABASE_ROUTERS=["django_tenants.routers.TenantSyncRouter"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=["django_tenants", "django.contrib.contenttypes", "zoocache.contrib.django"],
        SHARED_APPS=["django_tenants"],
        TENANT_APPS=["django.contrib.contenttypes"],
        TENANT_LIMIT_SET_CALLS=True,
        TENANT_MODEL="customers.Client",
        TENANT_DOMAIN_MODEL="customers.Domain",
        SILENCED_SYSTEM_CHECKS=["fields.E300"],
        USE_TZ=True,
        ZOOCACHE={"SCOPE": "packages.scopes.schema_of"} if "scope" in sys.argv else {},
    )
    django.setup()

from django.core import checks
from django.db import connection, models

from zoocache import store
from zoocache.contrib.django import ZooCacheManager

TENANTS = ["east", "west"]


class Thing(models.Model):
    name = models.CharField(max_length=20)

    objects = ZooCacheManager()

    class Meta:
        app_label = "things"


def main() -> None:
    try:
        for tenant in TENANTS:
            make(tenant)
        differ = visit({"east": "east", "west": "west"})
        connection.set_schema("west")
        Thing.objects.update(name="new")
        differ += visit({"east": "east", "west": "new"})
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP SCHEMA IF EXISTS east, west CASCADE")
    warned = [message.id for message in checks.run_checks(tags=["zoocache"])]
    print(json.dumps({"differ": differ, "hits": store.stats()["hits"], "warned": warned}))


def make(tenant: str) -> None:
    connection.set_schema_to_public()
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA {tenant}")
    connection.set_schema(tenant)
    with connection.schema_editor() as editor:
        editor.create_model(Thing)
    Thing.objects.create(name=tenant)


def visit(expected: dict[str, str]) -> list[str]:
    """What was wrong, of several visits to each tenant, on several connections."""
    differ = []
    for _ in range(2):
        for tenant, name in [*expected.items()] * 2:
            connection.set_schema(tenant)
            # The first is the server's cursor: its search_path is set by the driver's own.
            lists = Thing.cached.iterator(), Thing.cached.all()
            read = [thing.name for things in lists for thing in things]
            read += [Thing.cached.get(pk=1).name]
            if read != [name] * 3 or not Thing.cached.filter(name=name).exists():
                differ.append(f"{read} of {tenant}, where {name} is right")
        connection.close()
    return differ


if __name__ == "__main__":
    main()
