"""`doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import json

import click

from zoocache import doctor
from zoocache.cli import project
from zoocache.cli.app import NO, cli
from zoocache.findings import Level

_COLOURS = {Level.OK: "green", Level.NOTE: "cyan", Level.WARNING: "yellow", Level.PROBLEM: "red"}


@cli.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="One list of objects, for programs.")
@click.pass_context
def doctor_(ctx: click.Context, as_json: bool) -> None:
    """Look at everything that can be wrong, and say what to do.

    The settings, /dev/shm and its room, permissions, segments of other users, objects
    without a name, commits of dead processes, processes that are stopped or in another
    container, and every entry and table of the segment. With a Django project, also
    zoocache's system checks. Changes nothing but what any process would: announcements of
    dead processes are taken over. Exit code 1 if there is a problem.
    """
    findings = list(doctor.examine(own=ctx.obj is None))
    if project.is_set_up():
        from zoocache.contrib.django import checks

        findings += checks.findings()
    if as_json:
        told = [{"level": f.level.value, "what": f.what, "todo": f.todo} for f in findings]
        click.echo(json.dumps(told, indent=2))
    else:
        for finding in findings:
            level = click.style(f"{finding.level.value:8}", fg=_COLOURS[finding.level])
            click.echo(f"{level} {finding.what}")
            if finding.todo:
                click.echo(f"{'':8}   {finding.todo}")
    if any(finding.level is Level.PROBLEM for finding in findings):
        ctx.exit(NO)
