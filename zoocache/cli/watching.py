"""What takes its time and fills a screen: top, bench. What they need is imported when they run."""

from __future__ import annotations

import click

from zoocache.cli.app import cli


@cli.command("top")
@click.option(
    "--interval", "-i", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True,
    metavar="SECONDS", help="Between two screens.",
)  # fmt: skip
@click.option(
    "--seconds", type=click.FloatRange(min=0), metavar="SECONDS", help="End after so long."
)
@click.option("--once", is_flag=True, help="Watch for one interval, print one screen and end.")
def top(interval: float, seconds: float | None, once: bool) -> None:
    """Watch the segment: hits, the map of the logs, hot keys and tags, workers, what is dropped.

    Ends with q or Ctrl-C. Without a terminal it prints one screen.

    HOTTEST KEYS are measured by samples: each process notes one in some 48 of its gets, which
    costs a hit nothing, and top collects these notes while it runs. A key's share of the
    samples of the last minute is its share of the gets, hits and misses alike. What is asked
    for less than some hundred times a minute may not show.

    HOTTEST TAGS are those that were invalidated most often in the last minute, as far back as
    the segment remembers (the last 256 to 4,096 invalidations). Of a tag it remembers the
    first 24 bytes.

    THE MAP shows where in the two circular logs the entries lie that would be served. New
    ones are written at the head (the bar), and over the oldest. Red: what was invalidated or
    has expired. Dots: never written to.

    OWN is a worker's memory without what it shares with others; the segment is shared.
    """
    from zoocache.cli.live import watch

    watch(interval, seconds, once)


@cli.command("bench")
@click.option(
    "--seconds", type=click.FloatRange(1, 3600), default=60.0, show_default=True,
    help="For all of it. The more, the steadier the figures.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def bench(seconds: float, as_json: bool) -> None:
    """Measure zoocache on this machine, beside a dict and a cache in the process.

    In a segment of its own, which is removed afterwards; yours is not touched. All that is
    compared takes turns, a few milliseconds each, so that whatever else the machine does
    meets all of them: believe the ratios, not the times.

    \b
      dict       what nothing can beat: a dict in the process, of bytes
      in-process what Django's LocMemCache does: a lock, an OrderedDict, pickle. Each
                 worker fills one for itself, and an invalidation reaches only one
    """
    from zoocache.cli.benching import measure

    measure(seconds, as_json)
