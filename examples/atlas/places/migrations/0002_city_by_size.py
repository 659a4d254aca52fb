from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("places", "0001_initial")]

    operations = [
        migrations.AddIndex(
            model_name="city",
            index=models.Index(fields=["-population", "id"], name="city_by_size"),
        ),
    ]
