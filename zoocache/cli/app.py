"""The group of commands, what they have in common, and how they end.

Exit codes: DONE, NO, MISTAKE, UNUSABLE, INTERRUPTED. A user's mistake is told in
one sentence; a stack trace is a bug of zoocache's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import click

import zoocache
from zoocache import config
from zoocache.cli import EXTRA, MISSING
from zoocache.cli.project import set_up_django
from zoocache.exceptions import SegmentError, SegmentMissingError, ZooCacheError
from zoocache.shm import Cache, Segment, path_of

DONE: Final = 0
NO: Final = 1
MISTAKE: Final = 2
UNUSABLE: Final = 3
INTERRUPTED: Final = 130

EXIT_CODES = """\b
Exit codes:
  0    done
  1    the answer is no: there is no such segment or key, or the doctor found a problem
  2    a mistake in the command line or in the settings
  3    the segment cannot be used: permissions, another version, no room
  130  interrupted
"""


class _No(click.ClickException):
    exit_code = NO


class _Mistake(click.ClickException):
    exit_code = MISTAKE


class _Unusable(click.ClickException):
    exit_code = UNUSABLE


_FAILURES = {failure.exit_code: failure for failure in (_No, _Mistake, _Unusable)}


def fail(message: str, code: int = NO) -> NoReturn:
    """Ends the command with a sentence for the user."""
    raise _FAILURES[code](message)


class Command(click.Command):
    """A subcommand: has `--name`, and tells zoocache's errors in one sentence."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(
                ["--name"],
                help="The segment, if it is not the one of the settings: zoocache --name shop ...",
            )
        )

    def invoke(self, ctx: click.Context) -> Any:
        name = ctx.params.pop("name") or (ctx.parent.params.get("name") if ctx.parent else None)
        ctx.obj = name  # the segment, if it was named
        try:
            set_up_django()
            with config.overriding(name=name):
                code = super().invoke(ctx)
                sys.stdout.flush()  # here, where a reader that is gone is no error
                return code
        except SegmentMissingError:
            fail(no_segment(name))
        except SegmentError as error:
            fail(str(error), UNUSABLE)
        except ZooCacheError as error:
            fail(str(error), MISTAKE)
        except ModuleNotFoundError as error:
            missing = str(error.name).partition(".")[0]
            if missing not in EXTRA:
                raise
            fail(MISSING.format(name=missing), MISTAKE)
        except BrokenPipeError:  # of `zoocache keys | head`
            # What is still buffered must not fail a second time, when Python ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(DONE)


class Group(click.Group):
    command_class = Command


@click.group(
    cls=Group, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]}
)  # fmt: skip
@click.option("--name", help="The segment, if it is not the one of the settings.")
@click.version_option(zoocache.__version__, prog_name="zoocache")
def cli(name: str | None) -> None:
    """See the cache of this host, ask it, and tell it what to drop.

    Which segment: --name, else what the settings of your project say if
    DJANGO_SETTINGS_MODULE is set (or through manage.py zoocache), else ZOOCACHE_NAME,
    else "default". Segments belong to a user, or with GROUP (ZOOCACHE_GROUP) to a group: run
    this as the user of your workers, or as one of the group.

    \b
    Begin with:
      zoocache doctor    is all well, and if not, what to do
      zoocache top       watch it work
    """


def cache() -> Cache:
    """The segment's cache. It is attached and never made; SegmentMissingError."""
    return Cache(Segment(config.segment_name()))


def no_segment(name: str | None) -> str:
    path = path_of(config.segment_name(name))
    return (
        f"there is no segment {path}: no process of this user has read from the cache yet, or it "
        f"has another name (--name), another user (sudo -u) or another group (GROUP). "
        f"`zoocache doctor` says more"
    )


def call(arguments: Sequence[str] | None, program: str) -> int:
    """Runs the command and returns its exit code; click.ClickException, click.Abort."""
    from zoocache.cli import commands  # noqa: F401  (they join the group)

    given = None if arguments is None else list(arguments)
    code = cli.main(given, prog_name=program, standalone_mode=False)
    return code if isinstance(code, int) else DONE


def run(arguments: Sequence[str] | None = None, program: str = "zoocache") -> int:
    """Runs the command, tells what went wrong, and returns its exit code."""
    try:
        return call(arguments, program)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
