"""What tells something: stat, keys, get, why."""

from __future__ import annotations

import fnmatch
import itertools
import json
import os
import pprint
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from zoocache import codec, host, sites, telling
from zoocache.cli import project, text
from zoocache.cli.app import MISTAKE, NO, cache, cli, fail
from zoocache.monitor import CAUSES, hit_ratio
from zoocache.shm import Cache, path_of, tally
from zoocache.shm.explain import State, explain
from zoocache.shm.look import census, shape_of

_EXPRESSION = re.compile(r"[.(]\w*\(|\.(?:cached|objects)\b")
_JSON = click.option("--json", "as_json", is_flag=True, help="For programs.")


@cli.command("stat")
@_JSON
def stat(as_json: bool) -> None:
    """Print what the segment is, what is in it, and the counters of the whole host.

    Counters are of all processes together since the segment was made.
    """
    target = cache()
    found = _facts(target)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    stats, entries, logs = found["counters"], found["entries"], found["logs"]
    gets = stats["hits"] + stats["local"] + stats["misses"]
    age = text.span(time.time() - found["made_or_cleared"])
    rows = [
        ("segment", f"{found['path']}: {text.size(found['size'])}, made or cleared {age} ago"),
        ("used by", ", ".join(map(str, found["pids"])) or "no process that can be seen here"),
        ("hit ratio", f"{text.percent(found['hit_ratio'])} of {gets:,} gets"),
        ("misses", ", ".join(f"{stats[c]:,} {c}" for c in CAUSES if stats[c]) or "none"),
        (
            "entries",
            f"{entries['fresh']:,} fresh, {text.size(entries['fresh_bytes'])}; "
            f"{entries['stale']:,} stale, {entries['expired']:,} expired",
        ),
        *(
            (
                f"{name} log",
                f"{text.size(log['size'])}, filled {log['written'] / log['size']:.1f} times",
            )
            for name, log in logs.items()
        ),
    ]
    for name, spans in found["seconds"].items():
        if spans["count"]:
            median, most = text.brief(spans["median"]), text.brief(spans["p99"])
            rows.append((f"a {name} takes", f"{median} (median), {most} (99 %)"))
    click.echo(text.columns(rows))
    click.echo()
    click.echo(text.columns([(name, f"{n:,}") for name, n in sorted(stats.items())], indent="  "))


def _told_spans(spans: tally.Spans) -> dict[str, float | None]:
    finite = [spans.quantile(share) for share in (0.5, 0.99)]
    median, most = (one if one != float("inf") else None for one in finite)
    return {"count": spans.total, "sum": spans.seconds, "median": median, "p99": most}


def _facts(target: Cache) -> dict[str, Any]:
    """What `stat --json` prints; docs/operations.md describes it."""
    path = path_of(target.segment.name)
    shape, entries, stats = shape_of(target), census(target), target.stats()
    return {
        "name": target.segment.label,
        "path": path,
        "size": target.segment.size,
        "largest_record": target.segment.max_record,
        "made_or_cleared": time.time() - shape.age,
        "pids": [pid for pid in host.pids_using(path) if pid != os.getpid()],
        "hit_ratio": hit_ratio(stats),
        "seconds": {
            "get": _told_spans(tally.gets(target)), "miss": _told_spans(tally.fills(target)),
        },
        "sites": [
            {**label._asdict(), **counts._asdict()}
            for label, counts in sites.counted(target).items()
        ],
        "counted": entries.share,
        "entries": {
            "fresh": entries.fresh, "stale": entries.stale, "expired": entries.expired,
            "pending": entries.pending, "fresh_bytes": entries.fresh_bytes,
            "other_bytes": entries.other_bytes,
        },
        "index": {
            "words": 8 * shape.buckets, "entries": entries.entries, "lost": entries.lost,
            "tentative": entries.tentative, "full_buckets": entries.crowded,
        },
        "logs": {
            name: {"size": log.size, "written": log.written}
            for name, log in (("probation", shape.probation), ("main", shape.main))
        },
        "commits_under_way": shape.active_lanes,
        "counters": stats,
    }  # fmt: skip


@cli.command("keys")
@click.option("--match", metavar="GLOB", help="Only those that match, like 'dj=:1:user*'.")
@click.option(
    "--limit", type=click.IntRange(min=0), default=100, show_default=True,
    help="No more than so many; 0: all.",
)  # fmt: skip
@click.option("--long", "-l", "is_long", is_flag=True, help="Size of value, tags, expiry, too.")
def keys(match: str | None, limit: int, is_long: bool) -> None:
    """List the keys of fresh entries, in no order.

    A key that is not text is written as 0x and hexadecimal digits; `get` and `why --key` take
    it so. Cached queries have keys of q and a digest, results of functions of f and a digest,
    those of Django's CACHES backend begin with dj=.
    """
    target = cache()
    found = _matching(target, match)
    shown = list(itertools.islice(found, limit)) if limit else found
    for key in shown:
        click.echo(_long(target, key) if is_long else telling.written_key(key))
    if limit and next(found, None) is not None:
        click.echo("There are more: --limit 0 for all, --match to choose.", err=True)


def _matching(target: Cache, match: str | None) -> Iterator[bytes]:
    for key in target.keys():  # noqa: SIM118  (it is no mapping)
        if match is None or fnmatch.fnmatchcase(telling.written_key(key), match):
            yield key


def _long(target: Cache, key: bytes) -> str:
    entry = explain(target, key)
    left = "for ever" if entry.expires is None else text.span(entry.expires - time.time())
    tags = max(0, len(entry.deps) - 2)
    return f"{text.size(entry.size):>10}  {tags:>4} tags  {left:>8}  {telling.written_key(key)}"


@cli.command("get")
@click.argument("key")
@click.option("--raw", is_flag=True, help="The bytes as they are, to the standard output.")
def get(key: str, raw: bool) -> None:
    """Print the value of KEY, as `keys` writes it. Counts as a hit, or a miss.

    Rows of queries and results of functions are decoded. What a serializer of Django's
    CACHES made is shown as text or bytes and never unpickled: that could run code. Exit code
    1 if there is no fresh entry.
    """
    target, name = cache(), telling.read_key(key)
    value = target.get(name)
    if value is None:
        fail(f"{key} is {telling.verdict(explain(target, name).state)}", NO)
    if raw:
        sys.stdout.buffer.write(value)
        return
    click.echo(_decoded(value))


def _decoded(value: bytes) -> str:
    """A value as far as it can be read without running anything of it."""
    for decode in (codec.decode, codec.decode_rows):
        try:
            return pprint.pformat(decode(value), width=100)
        except codec.StaleFormat:
            continue
    try:
        decoded = value.decode()
    except UnicodeDecodeError:
        return repr(value)
    return decoded if decoded.replace("\n", "").isprintable() else repr(value)


@cli.command("why")
@click.argument("what")
@click.option("--key", is_flag=True, help="WHAT is a key, as `zoocache keys` writes it.")
def why(what: str, key: bool) -> None:
    """Say why something is served from the cache or is not, and when and by whom it was dropped.

    \b
      zoocache why user:42                 when a tag was invalidated, and by which process
      zoocache why --key KEY               what a get of the key would come to
      manage.py zoocache why Product:42
      manage.py zoocache why 'Product.cached.filter(active=True)'

    A query, with its project's models at hand, is evaluated as in a shell: it fills what is
    missing. What is told is of before.
    """
    if key:
        target, name = cache(), telling.read_key(what)
        entry, told = telling.why_key(target, name, project.names_for(target))
        click.echo(told)
        if entry.state is not State.FRESH:
            click.get_current_context().exit(NO)
    elif _EXPRESSION.search(what):
        if not project.is_set_up():
            fail(
                f"{what!r} looks like a query, and no Django project is loaded: ask "
                f"`manage.py zoocache why`, or set {project.VARIABLE}",
                MISTAKE,
            )
        from zoocache.contrib.django import asking

        click.echo(asking.why_query(what))
    else:
        click.echo(telling.why_tag(what, project.told()))
