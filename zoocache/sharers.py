"""Who shares the segment with this process, and who has one of the same name beside it."""

from __future__ import annotations

import grp
import os
from collections.abc import Iterator

from zoocache import config, host
from zoocache.findings import Finding, listed, problem, warning
from zoocache.shm import Segment, path_of
from zoocache.shm.names import (
    group_called,
    group_of,
    is_member,
    may_be_member,
    no_member,
    user_called,
)


def membership(settings: config.Settings) -> Iterator[Finding]:
    """May this process make and use the segment of the group?"""
    if settings.group is not None and not is_member(settings.group):
        what, _, todo = no_member(settings.group, path_of(settings.segment)).partition(": ")
        yield problem(what, todo)


def by_its_owner(settings: config.Settings) -> str:
    """Who alone can replace a group's segment, if that is not this user."""
    owners = [one.uid for one in host.files() if str(one.path) == path_of(settings.segment)]
    if owners in ([], [os.geteuid()]):
        return ""
    return f" It must be one of user {user_called(owners[0])}'s, whose file it is, or root's."


def is_mine(found: host.Found, settings: config.Settings) -> bool:
    """Would a process with these settings open it, if it had its name?"""
    return found.group == settings.group and (
        settings.group is not None or found.uid == os.geteuid()
    )


def other_users(settings: config.Settings) -> Iterator[Finding]:
    """Do other users, or a group, have a segment of the name? Those who share one have one file."""
    me = os.geteuid()
    here = f"user {me}" if settings.group is None else f"group {group_called(settings.group)}"
    for found in host.files():
        if found.name != settings.name or found.suffix or is_mine(found, settings):
            continue
        if found.group is not None:
            whose = f"group {group_called(found.group)}'s segment of the same name"
            todo = "Set GROUP alike in all that writes to your database, and start it anew."
        elif settings.group is not None:
            if not may_be_member(found.uid, settings.group):
                continue  # another project's
            whose = f"user {found.uid}'s own segment of the same name, made without GROUP"
            todo = (
                "Set GROUP in all that writes to your database, and start it anew. If nobody uses "
                f"that segment any more: zoocache destroy, as user {found.uid} and without GROUP."
            )
        else:
            whose = f"user {found.uid}'s segment of the same name"
            todo = (
                "Run everything that writes to your database as the workers' user: cron jobs and "
                "management commands, too (sudo -u). Or let a group share one segment: GROUP."
            )
        yield warning(
            f"{found.path} is {whose}: processes of {here}, this one for instance, neither read "
            f"it nor invalidate in it",
            todo,
        )


def sharers_of(segment: Segment) -> str:
    """Who may open a group's segment, and who alone may replace it."""
    group = group_of(segment.name)
    if group is None:
        return ""
    try:
        members = grp.getgrgid(group).gr_mem
    except KeyError:
        members = []
    told = listed(members) if members else "those whose first group it is"
    try:
        owner = user_called(os.stat(path_of(segment.name)).st_uid)
    except OSError:  # removed meanwhile
        owner = "?"
    return (
        f" than members of the group {group_called(group)} ({told}); user {owner}'s, who alone "
        f"(and root) can resize or destroy it"
    )
