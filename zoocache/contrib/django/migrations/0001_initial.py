from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    """No table: Django makes the permissions of the status page."""

    initial = True

    operations = [
        migrations.CreateModel(
            name="Status",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
            ],
            options={
                "verbose_name": "cache status",
                "verbose_name_plural": "cache status",
                "permissions": [("invalidate_status", "Can invalidate what is cached")],
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
    ]
