"""Whose a segment is: its file, and why a process may not use or replace it.

`zoocache.shm` calls a segment of the effective user by its name, and one that a group shares
`<gid>/<name>`.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterator

from zoocache.exceptions import SegmentPermissionError

GROUP_MODE = 0o660


def path_of(name: str) -> str:
    """The file that holds the segment `name`, of the effective user or of a group."""
    group = group_of(name)
    whose = os.geteuid() if group is None else f"g{group}"
    return f"/dev/shm/zoocache-{whose}-{name if group is None else name.rpartition('/')[2]}"


def group_of(name: str) -> int | None:
    """The number of the group that shares the segment; None: it is its user's alone."""
    group = name.rpartition("/")[0]
    return int(group) if group.isascii() and group.isdecimal() else None


def is_member(group: int) -> bool:
    """May this process use what the group shares?"""
    return os.geteuid() == 0 or group == os.getegid() or group in os.getgroups()


def may_be_member(uid: int, group: int) -> bool:
    """Could a process of the user be in the group? True where the user is not known here."""
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return True
    return uid == 0 or group in os.getgrouplist(user.pw_name, user.pw_gid)


def user_called(uid: int) -> str:
    """The user's name, or number where it has none here."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_called(gid: int) -> str:
    """The group's name, or number where it has none here."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def no_member(group: int, what: str) -> str:
    """What to do where this process's user is not in the group."""
    called, me = group_called(group), user_called(os.geteuid())
    return (
        f"{what} is shared by the group {called}, and this process, of user {me}, is not in it: "
        f"usermod -aG {called} {me}, and start the process anew, for groups are those of its "
        f"start (with gunicorn's `user`: initgroups = True)"
    )


def refused(name: str) -> SegmentPermissionError:
    """The file has another owner or group than its name says, or this process may not open it."""
    path, group = path_of(name), group_of(name)
    if group is None:
        return SegmentPermissionError(
            f"{path} belongs to another user. Run as that user, or choose another name; or let a "
            f"group share the segment (GROUP)."
        )
    if not is_member(group):
        return SegmentPermissionError(no_member(group, path) + ".")
    for file, status in _there(path, ".lock"):
        if status.st_gid != group:
            owner = user_called(status.st_uid)
            return SegmentPermissionError(
                f"{file} is not the group {group_called(group)}'s, whose name it has: user {owner} "
                f"made it. Remove it, as {owner} or root."
            )
    return SegmentPermissionError(
        f"{path} may not be opened, or not be given to the group {group_called(group)}, by user "
        f"{user_called(os.geteuid())}. In a container, the group must have its number inside, too."
    )


def too_open(name: str, remake: str) -> SegmentPermissionError:
    """The file's mode is another than zoocache gives it."""
    path, group = path_of(name), group_of(name)
    if group is None:
        what = f"{path} is open to other users, so its contents cannot be trusted."
    else:
        what = (
            f"{path}, or its lock file, has not the mode 0660 that a segment of the group "
            f"{group_called(group)} has, so its contents cannot be trusted."
        )
    return SegmentPermissionError(f"{what} {remake}")


def sticky(name: str, why: str) -> SegmentPermissionError:
    """`why` it must be replaced or removed, and who may: /dev/shm is sticky."""
    path = path_of(name)
    for file, status in _there(path, ".next"):
        if status.st_uid != os.geteuid():
            owner = user_called(status.st_uid)
            return SegmentPermissionError(
                f"{why}, and {file} belongs to user {owner}: in /dev/shm, only a file's owner and "
                f"root can do that. Run zoocache resize or zoocache destroy as {owner} or as root."
            )
    return SegmentPermissionError(f"{why}, and this process may not do that to {path}.")


def _there(path: str, suffix: str) -> Iterator[tuple[str, os.stat_result]]:
    for file in (path, path + suffix):
        try:
            status = os.lstat(file)
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode):
            yield file, status
