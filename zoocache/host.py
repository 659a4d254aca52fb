"""What of zoocache is on this host: files in /dev/shm, and the processes that have them mapped."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SHM = Path("/dev/shm")
# Everybody may make files there: what looks odd is not ours, and is not printed.
_OBJECT = re.compile(
    r"zoocache-(?:g(?P<gid>[0-9]+)|(?P<uid>[0-9]+))-(?P<name>[A-Za-z0-9._-]+?)"
    r"(?P<suffix>\.lock|\.next)?"
)
_MAPPING = re.compile(
    r"\S+ \S+ \S+ \S+ (?P<inode>[0-9]+) +/dev/shm/(?P<file>zoocache-.+?)(?P<gone> \(deleted\))?"
)

# The numbers of the namespaces that a machine starts with are fixed (linux/nsfs.h).
_FIRST = {"pid": "pid:[4026531836]", "user": "user:[4026531837]"}


class Room(NamedTuple):
    """Of the file system of shared memory, in bytes."""

    total: int
    free: int


class Found(NamedTuple):
    """One file of zoocache in /dev/shm."""

    uid: int
    """Its owner."""
    name: str
    """Of the segment that it is, or belongs to."""
    suffix: str
    """"" for a segment, ".lock" for its lock file, ".next" for a successor in the making."""
    path: Path
    size: int
    """In bytes."""
    mode: int
    changed: float
    """Unix time in seconds."""
    inode: int
    group: int | None = None
    """The group that shares it; None: it is the owner's alone."""

    @property
    def segment(self) -> str:
        """What `zoocache.shm` calls the segment: its owner, or one of the group."""
        return self.name if self.group is None else f"{self.group}/{self.name}"


class Mapping(NamedTuple):
    """A segment that a process has mapped."""

    pid: int
    file: str
    inode: int
    nameless: bool
    """Is the object's name gone, so that nobody else can open it?"""


def room() -> Room:
    """The size of /dev/shm, and what is left of it; OSError if there is none."""
    found = os.statvfs(SHM)
    return Room(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)


def files() -> list[Found]:
    """All files of zoocache, whoever's they are; one in another user's or group's name is none."""
    found = []
    for path in sorted(SHM.glob("zoocache-*")):
        match = _OBJECT.fullmatch(path.name)
        try:
            status = path.lstat()
        except OSError:  # gone meanwhile
            continue
        if match is None or not stat.S_ISREG(status.st_mode):
            continue
        group = None if match["gid"] is None else int(match["gid"])
        if status.st_uid == int(match["uid"]) if group is None else status.st_gid == group:
            found.append(
                Found(
                    status.st_uid, match["name"], match["suffix"] or "", path, status.st_size,
                    stat.S_IMODE(status.st_mode), status.st_mtime, status.st_ino, group,
                )
            )  # fmt: skip
    return found


def mappings() -> Iterator[Mapping]:
    """The segments that processes have mapped, as far as this one may see them."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            lines = (folder / "maps").read_text(errors="replace").splitlines()
        except OSError:  # another user's, or gone
            continue
        seen = set()
        for line in lines:
            match = _MAPPING.fullmatch(line) if "/dev/shm/zoocache-" in line else None
            if match is not None and match["inode"] not in seen:
                seen.add(match["inode"])
                gone = match["gone"] is not None
                yield Mapping(int(folder.name), match["file"], int(match["inode"]), gone)


class Process(NamedTuple):
    """A process of this host."""

    pid: int
    age: float
    """In seconds."""
    own: int
    """Bytes of memory that it does not share."""
    stopped: bool
    command: str


def process(pid: int) -> Process | None:
    """What /proc tells of a process; None if it is gone, or not to be seen."""
    folder = Path(f"/proc/{pid}")
    try:
        # The name in front is in brackets, and may hold anything.
        state, *fields = (folder / "stat").read_text().rpartition(")")[2].split()
        _, resident, shared, *_ = map(int, (folder / "statm").read_text().split())
        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (OSError, ValueError):
        return None
    started = int(fields[18]) / os.sysconf("SC_CLK_TCK")
    return Process(
        pid,
        time.clock_gettime(time.CLOCK_BOOTTIME) - started,
        (resident - shared) * os.sysconf("SC_PAGE_SIZE"),
        state in "Tt",
        command.strip(),
    )


def pids_using(path: str) -> list[int]:
    """The processes that have the file mapped, under its name."""
    name = Path(path).name
    return sorted(one.pid for one in mappings() if one.file == name and not one.nameless)


def memory_limit(
    mine: Path = Path("/proc/self/cgroup"), groups: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """How many bytes this process's control group may use; None where that is not limited."""
    try:
        group = mine.read_text().rpartition("0::")[2].strip()
    except OSError:
        return None
    # Each group above limits it, too. A container may see its own as the root.
    folders = [groups / group.lstrip("/"), *(groups / group.lstrip("/")).parents]
    files = [folder / "memory.max" for folder in folders if folder.is_relative_to(groups)]
    limits = []
    for file in (*files, groups / "memory" / "memory.limit_in_bytes"):
        try:
            text = file.read_text().strip()
        except OSError:
            continue
        if text.isdecimal() and int(text) < 1 << 60:  # version 1's "unlimited" is more
            limits.append(int(text))
    return min(limits, default=None)


def own_namespaces() -> list[str]:
    """Of "pid" and "user": in which this process is in another namespace than the machine's."""
    return [kind for kind, link in _FIRST.items() if _namespace(kind) not in ("", link)]


def _namespace(kind: str) -> str:
    try:
        return os.readlink(f"/proc/self/ns/{kind}")
    except OSError:
        return ""


def time_namespace(pid: int | str = "self") -> str:
    """Names the time namespace of a process; "" where that is not to be known."""
    try:
        return os.readlink(f"/proc/{pid}/ns/time")
    except OSError:
        return ""
