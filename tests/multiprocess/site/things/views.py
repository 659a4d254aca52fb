"""Every way to read a thing's value through the cache, and every way to write it."""

from django.db import connection, transaction
from django.http import JsonResponse
from django.views.decorators.http import require_GET, require_POST

from things import functions
from things.barrier import reach
from things.models import Thing

READERS = {
    "row": lambda pk: Thing.cached.get(pk=pk).value,
    "filter": lambda pk: next(iter(Thing.cached.filter(id__in=[pk]))).value,
    "all": lambda pk: dict(Thing.cached.values_list("pk", "value"))[pk],
    "declared": functions.declared,
    "added": functions.added,
    "tracked": functions.tracked,
    "outer": functions.outer,
    "database": lambda pk: Thing.objects.get(pk=pk).value,
}


def save(pk, value):
    thing = Thing.objects.get(pk=pk)
    thing.value = value
    thing.save()


def update(pk, value):
    Thing.objects.filter(pk=pk).update(value=value)


def bulk_update(pk, value):
    Thing.objects.bulk_update([Thing(pk=pk, value=value)], ["value"])


def raw(pk, value):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE things_thing SET value = %s WHERE id = %s", [value, pk])


def replace(pk, value):
    with transaction.atomic():
        Thing.objects.filter(pk=pk).delete()
        Thing.objects.create(pk=pk, value=value)


WRITERS = {write.__name__: write for write in (save, update, bulk_update, raw, replace)}


@require_GET
def health(request):
    return JsonResponse({"value": None})


@require_GET
def read(request, how, pk):
    return JsonResponse({"value": READERS[how](pk)})


@require_POST
def write(request, how, pk, value):
    WRITERS[how](pk, value)
    return JsonResponse({"value": value})


class Undone(Exception):
    pass


@require_POST
def in_transaction(request, end, pk, value):
    """Answers with what the transaction itself reads after its write."""
    try:
        with transaction.atomic():
            update(pk, value)
            own = Thing.cached.get(pk=pk).value
            reach("transaction:written")
            if end == "rollback":
                raise Undone
    except Undone:
        pass
    return JsonResponse({"value": own})
