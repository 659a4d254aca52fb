"""A Django project made from nothing, used in processes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import zoocache

SETTINGS = """
    SECRET_KEY = "x"
    USE_TZ = True
    INSTALLED_APPS = ["shelf"]
    DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
    DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "fresh.sqlite3"}}
"""


def write_files(folder: Path, files: dict[str, str]) -> None:
    """Writes each text, without the indentation that all its lines have, to the path it goes by."""
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))


def run_python(folder: Path, *arguments: str, **environment: str) -> str:
    """What a process in the folder prints, with warnings as errors. It must succeed."""
    root = Path(zoocache.__file__).parents[1]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


_OF_MODELS = """
    SECRET_KEY = "x"
    INSTALLED_APPS = ["zoocache.contrib.django", "fresh_shop"]
    DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
    DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "fresh.sqlite3"}}
"""
_MODELS = """
    from django.db import models
    from zoocache.contrib.django import ZooCacheManager

    class Shop(models.Model):
        name = models.CharField(max_length=20)
        objects = ZooCacheManager()
"""
_BEGIN = """
    import os, django, zoocache
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
    django.setup()
    zoocache.configure(name=os.environ["NAME"], size="1MiB")
    from django.core.management import call_command
    from django.db import connection
    from django.test.utils import CaptureQueriesContext
    from fresh_shop.models import *
    call_command("migrate", run_syncdb=True, verbosity=0)

    def check(reads, write):
        before = [read() for read in reads]
        with CaptureQueriesContext(connection) as captured:
            assert [read() for read in reads] == before
        assert len(captured) == 0, captured.captured_queries
        write()
        after = [read() for read in reads]
        assert all(old != new for old, new in zip(before, after)), (before, after)
        return after
"""


def run_models(folder: Path, name: str, models: str, body: str) -> None:
    """Runs the body in a project with these models beside `Shop`, and a segment of that name.

    Its `check(reads, write)` says that the reads are hits, and that the write changes what each
    of them gives, which it returns.
    """
    body = textwrap.dedent(_BEGIN) + textwrap.dedent(body)
    files = {
        "settings.py": _OF_MODELS,
        "fresh_shop/__init__.py": "",
        "fresh_shop/models.py": textwrap.dedent(_MODELS) + textwrap.dedent(models),
        "check.py": body,
    }
    write_files(folder, files)
    run_python(folder, "check.py", NAME=name)
