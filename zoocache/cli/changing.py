"""What changes something: invalidate, clear, resize, destroy."""

from __future__ import annotations

import sys

import click

from zoocache import config, store
from zoocache.cli.app import MISTAKE, NO, cache, cli, fail, no_segment
from zoocache.cli.text import size as shown
from zoocache.shm import path_of, resize, unlink

_YES = click.option("--yes", "-y", is_flag=True, help="Do it without asking.")


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not _is_asked():
        fail("this asks before it does anything, and there is nobody to ask: add --yes", MISTAKE)
    if not click.confirm(question):
        fail("Nothing was done.", NO)


def _is_asked() -> bool:
    """Is there somebody at a terminal?"""
    return sys.stdin.isatty()


def _tell(what: str) -> None:
    """Where there is no segment nothing was to be dropped: no error, or a deploy would fail."""
    if store.writer() is None:
        click.echo(f"Nothing to drop: {no_segment(None)}", err=True)
    else:
        click.echo(what)


@cli.command("invalidate")
@click.argument("tags", nargs=-1, required=True, metavar="TAG...")
def invalidate(tags: tuple[str, ...]) -> None:
    """Drop, in every process, what depends on one of the tags or on a tag below.

    \b
      zoocache invalidate user:42 price-list
      manage.py zoocache invalidate Product            all of a model
      manage.py zoocache invalidate Product:42         entries that hold the row
      manage.py zoocache invalidate Product:category:5

    Names of models mean something only with the Django project: through manage.py, or
    with DJANGO_SETTINGS_MODULE set.
    """
    store.invalidate(*tags)
    _tell("Dropped what depends on " + ", ".join(tags))


@cli.command("clear")
def clear() -> None:
    """Drop everything, in every process.

    The segment stays, and every worker goes on with it. To be run after a database was
    restored or copied over. Costs nothing but the misses that follow.
    """
    store.clear()
    _tell("Dropped everything")


@cli.command("resize")
@click.argument("size")
@click.option(
    "--wait", type=click.FloatRange(min=0), default=5.0, show_default=True, metavar="SECONDS",
    help="For commits that are under way.",
)  # fmt: skip
@_YES
def resize_(size: str, wait: float, yes: bool) -> None:
    """Replace the segment by an empty one of SIZE, such as 256MiB, while it is in use.

    Every process goes on with the new one at its next operation: nothing is stale, and all
    is filled again. Change SIZE in your settings, too, for the next time it is made. The
    new one's index is sized by ENTRY_SIZE of the settings.
    """
    wanted = config.parse_size(size, "SIZE")
    segment = cache().segment
    _confirm(
        f"Replace {path_of(segment.name)}, of {shown(segment.size)}, by an empty one of "
        f"{shown(wanted)}?",
        yes,
    )
    entry_size = config.resolve(["ENTRY_SIZE"]).entry_size
    resize(segment.name, wanted, entry_size=entry_size, wait=wait)
    click.echo(f"{path_of(segment.name)} has {shown(wanted)} now, and is empty")


@cli.command("destroy")
@_YES
def destroy(yes: bool) -> None:
    """Remove the segment and its name.

    Processes that use it find that out at once, and make a new one when they next read
    from the cache. To be used when zoocache is uninstalled, or for a name that nobody uses
    any more. It also removes what `resize` of a broken segment cannot replace.
    """
    name = config.segment_name()
    _confirm(f"Remove {path_of(name)}?", yes)
    if not unlink(name):
        fail(no_segment(None))
    click.echo(f"Removed {path_of(name)}")
