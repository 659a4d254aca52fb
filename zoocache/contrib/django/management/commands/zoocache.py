"""`manage.py zoocache`: the command `zoocache`, with this project's settings and models."""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from zoocache.cli import EXTRA, MISSING

_PROGRAM = "manage.py zoocache"


class Command(BaseCommand):
    help = "Sees the host's cache, asks it why, and tells it what to drop: zoocache --help."
    requires_system_checks: list[str] = []  # it is what one runs when something is wrong

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("arguments", nargs=argparse.REMAINDER, help="stat, top, doctor, ...")

    def run_from_argv(self, argv: list[str]) -> None:
        first = argv[2] if len(argv) > 2 else "--help"
        if first in ("--help", "-h") or first.partition("=")[0] == "--name":
            # Django's parser would take them, as they come before a word, for its own.
            try:
                sys.exit(_app().run(argv[2:] or ["--help"], _PROGRAM))
            except CommandError as error:
                self.stderr.write(str(error))
                sys.exit(error.returncode)
        super().run_from_argv(argv)

    def handle(self, *args: Any, **options: Any) -> None:
        app = _app()
        import click

        # Not the wrapper, which ends each write with a line: click writes whole texts.
        out = getattr(self.stdout, "_out", sys.stdout)
        try:
            with contextlib.redirect_stdout(out):
                code = app.call(options["arguments"], _PROGRAM)
        except (click.Abort, KeyboardInterrupt):
            raise CommandError("Interrupted.", returncode=app.INTERRUPTED) from None
        except click.ClickException as error:
            raise CommandError(error.format_message(), returncode=error.exit_code) from error
        if code:
            sys.exit(code)


def _app() -> Any:
    try:
        from zoocache.cli import app
    except ModuleNotFoundError as error:
        if error.name not in EXTRA:
            raise
        raise CommandError(MISSING.format(name=error.name), returncode=2) from error
    return app
