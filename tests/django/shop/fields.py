"""Fields of the shop's own."""

from __future__ import annotations

import threading
from typing import NamedTuple

from django.db import models


class Money(NamedTuple):
    cents: int
    currency: str


class MoneyField(models.CharField):
    """Stored as "1234 EUR": its values are objects only above the driver."""

    def __init__(self, **kwargs):
        kwargs["max_length"] = 30
        super().__init__(**kwargs)

    def from_db_value(self, value, expression, connection):
        return self.to_python(value)

    def to_python(self, value):
        if value is None or isinstance(value, Money):
            return value
        cents, currency = value.split()
        return Money(int(cents), currency)

    def get_prep_value(self, value):
        if isinstance(value, Money):
            return f"{value.cents} {value.currency}"
        return value


class ShoutingField(models.CharField):
    """Reads what the database makes of the column, by SQL that only the field knows."""

    def select_format(self, compiler, sql, params):
        return f"UPPER({sql})", params


class Clerk(threading.local):
    pk: int | None = None


clerk = Clerk()


class ClerkKey(models.ForeignKey):
    """Set at each save to whoever is saving, without touching the instance."""

    def pre_save(self, model_instance, add):
        return clerk.pk
