"""What is wrong with a segment, or with its surroundings, and what to do about it."""

from __future__ import annotations

import difflib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from zoocache import config, host, isolation
from zoocache.exceptions import ConfigError, SegmentError, SegmentMissingError
from zoocache.findings import Finding, listed, note, ok, problem, warning
from zoocache.sharers import by_its_owner, is_mine, membership, other_users, sharers_of
from zoocache.shm import STAMPS_PER_SECOND, Cache, Segment, is_outdated, path_of
from zoocache.shm.intent import quarantined, reap
from zoocache.shm.look import MOST_OWNERS, owner_pids, shape_of
from zoocache.shm.names import group_of

_CHECKS_AT_MOST = 5
_A_MINUTE = 60.0
_AHEAD = 60.0  # seconds: what zoocache believes of another host's clock
_ROUNDING = 65536  # bytes: segments are made in such steps


def examine(*, own: bool = True) -> Iterator[Finding]:
    """Looks at everything, for the segment and the settings of this process.

    Not `own`: the segment is another one than these settings are meant for.
    """
    try:
        settings = config.resolve()
    except ConfigError as error:
        yield problem(str(error), "Set it right: until then, nothing is cached.")
        return
    yield from _settings(settings)
    yield from _shared_memory(settings)
    try:
        cache = Cache(Segment(settings.segment))
    except SegmentMissingError:
        yield note(
            f"there is no segment {path_of(settings.segment)} yet",
            "The first process that reads from the cache makes it. If your workers are running, "
            "they use another name, user or GROUP, or a /dev/shm of their own (a container).",
        )
        yield from membership(settings)
    except SegmentError as error:
        if is_outdated(settings.segment):
            yield note(
                f"{path_of(settings.segment)} was made by an older version",
                "The first worker of this version that starts replaces it: restart them all."
                + by_its_owner(settings),
            )
        else:
            yield problem(str(error), "")
    else:
        yield from _segment(cache, settings if own else None)
    yield from _files(settings)


def _settings(settings: config.Settings) -> Iterator[Finding]:
    if not settings.enabled:
        yield warning(
            "zoocache is switched off in this process: it reads nothing and stores nothing",
            "Remove ENABLED (ZOOCACHE_ENABLED) unless that is what you want.",
        )
    known = {f"ZOOCACHE_{key}" for key in config.KEYS} | {isolation.SUFFIX, isolation.SIZE}
    for variable in sorted(os.environ):
        if variable.startswith("ZOOCACHE_") and variable not in known:
            near = difflib.get_close_matches(variable, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
            yield note(f"the environment has {variable}, which zoocache does not read", hint)


def room_for(size: int) -> Iterator[Finding]:
    """Will a segment of so many bytes fit, where there is none yet?"""
    enlarge = (
        "Choose a smaller SIZE, or enlarge it: docker run --shm-size=..., shm_size in compose "
        "files, an emptyDir with medium: Memory in Kubernetes, mount -o remount,size=... /dev/shm."
    )
    try:
        room = host.room()
    except OSError as error:
        yield problem(f"/dev/shm cannot be looked at: {error.strerror}", "Mount a tmpfs there.")
        return
    limit = host.memory_limit()
    if size > room.free:
        yield problem(
            f"a segment of {size:,} bytes does not fit /dev/shm, which has {room.free:,} bytes "
            f"left of {room.total:,}",
            enlarge,
        )
    elif limit is not None and size > limit // 2:
        yield warning(
            f"a segment of {size:,} bytes is more than half of the {limit:,} bytes of memory that "
            f"this control group (container) may use: it counts as used memory",
            "Choose a smaller SIZE, or give the container more memory.",
        )
    else:
        yield ok(f"/dev/shm has {room.free:,} bytes left of {room.total:,}")


def _shared_memory(settings: config.Settings) -> Iterator[Finding]:
    yield from room_for(0 if _is_made(settings.segment) else settings.size)
    contained = host.own_namespaces()
    if contained:
        yield note(
            f"this process is in a container, with a {' and a '.join(contained)} namespace of its "
            f"own: that is no matter, as long as /dev/shm and the user (with GROUP, the group's "
            f"number) are the others'",
            "Whatever writes to your database must see the same /dev/shm, as the same user or group"
            " (docker run --ipc=container:web, one volume for a pod's containers): it is not heard "
            "of otherwise.",
        )
    try:
        mode = stat.S_IMODE(os.stat(host.SHM).st_mode)
    except OSError:
        return  # told above
    if not os.access(host.SHM, os.W_OK | os.X_OK):
        yield problem(
            f"/dev/shm may not be written to by user {os.geteuid()} (mode {mode:04o})",
            "chmod 1777 /dev/shm",
        )


def _is_made(name: str) -> bool:
    """Does the segment have its memory? A process that found no room leaves a file without any."""
    try:
        return os.stat(path_of(name)).st_blocks > 0
    except OSError:
        return False


def _files(settings: config.Settings) -> Iterator[Finding]:
    name = settings.name
    yield from other_users(settings)
    mine = Path(path_of(settings.segment_called(""))).name
    mapped = [one for one in host.mappings() if one.pid != os.getpid()]
    used = {(one.file, one.inode) for one in mapped}
    found = [one for one in host.files() if is_mine(one, settings)]
    nameless = sorted({one.pid for one in mapped if one.nameless and one.file.startswith(mine)})
    if nameless:
        yield note(
            f"processes hold memory of segments whose names are gone: {listed(nameless)}",
            "That is so for a moment after destroy, resize or rm. A process lets go of it with "
            "its next use of the cache; one that stays idle must be restarted.",
        )
    unused = [
        one.name
        for one in found
        if not one.suffix and one.name != name and (one.path.name, one.inode) not in used
    ]
    if unused:
        yield note(
            f"segments that no process uses, as far as can be seen here: {listed(unused)}",
            f"If nobody needs them: zoocache destroy --name {unused[0]}",
        )
    names = {one.name for one in found if not one.suffix}
    for one in found:
        if one.suffix == ".next" and time.time() - one.changed > _A_MINUTE:
            yield note(
                f"{one.path}, {one.size:,} bytes, was left by a resize that was killed",
                f"zoocache resize --name {one.name} replaces it; or remove the file.",
            )
        elif one.suffix == ".lock" and one.name == name and name not in names:
            yield note(
                f"the segment {name} was removed by hand: {one.path} is still there",
                f"Harmless. Next time use: zoocache destroy --name {name}",
            )


def _segment(cache: Cache, wanted: config.Settings | None) -> Iterator[Finding]:
    segment = cache.segment
    yield ok(
        f"{path_of(segment.name)} can be opened: {segment.size:,} bytes, closed to other users"
        + sharers_of(segment)
    )
    if wanted is not None:
        yield from _other_settings(segment, wanted)
    yield from _soundness(segment)
    yield from _commits(cache)
    yield from _processes(cache)
    yield from _counters(cache.stats(), segment)


def _other_settings(segment: Segment, wanted: config.Settings) -> Iterator[Finding]:
    size = wanted.size
    if abs(segment.size - size) >= _ROUNDING:
        yield warning(
            f"the segment has {segment.size:,} bytes, the settings of this process say "
            f"{size:,}: it was made with another setting, and keeps its size",
            f"zoocache resize {size} (it begins empty), or change SIZE.",
        )
    if segment.entry_size != wanted.entry_size:
        yield warning(
            f"the segment's index is for {_entries_of(segment.entry_size)}, the settings of this "
            f"process say {_entries_of(wanted.entry_size)}: it was made with another setting",
            f"zoocache resize {size} makes it anew (it begins empty), or change ENTRY_SIZE.",
        )


def _entries_of(size: int) -> str:
    return f"entries of {size:,} bytes" if size else "entries of any size"


def _soundness(segment: Segment) -> Iterator[Finding]:
    """A writer under way may look like damage; damage is there each time."""
    broken: set[str] = set()
    for attempt in range(_CHECKS_AT_MOST):
        report = segment.check()
        found = {
            name
            for name in ("words_misplaced", "keys_doubled", "clocks_ahead", "bits_leaked")
            if getattr(report, name)
        }
        broken = found if attempt == 0 else broken & found
        if not broken:
            yield ok(f"its {report.entries:,} entries verify, and its tables are sound")
            return
    yield problem(
        f"the segment is damaged: {', '.join(sorted(broken)).replace('_', ' ')}",
        f"Entries that are damaged are never served. zoocache resize {segment.size} makes it anew "
        f"while it is used. Please report this.",
    )


def _commits(cache: Cache) -> Iterator[Finding]:
    taken = reap(cache)
    if taken:
        yield note(
            f"{taken} announced commits of processes that died were taken over just now",
            "Nothing: what they may have changed is read from the database meanwhile.",
        )
    waiting, now = quarantined(cache), time.clock_gettime(time.CLOCK_BOOTTIME)
    for one in waiting:
        session = f" (session {one.session})" if one.session else ""
        yield note(
            f"a commit whose outcome is unknown{session} keeps what it changes from being cached "
            f"for at most {max(0.0, one.until - now):.0f} s more",
            "Nothing: it ends by itself. QUARANTINE sets for how long.",
        )
    shape = shape_of(cache)
    if shape.miss_until > now:
        yield warning(
            f"nobody hits for {shape.miss_until - now:.0f} s more: there were more commits at "
            f"once than the segment has lanes for, or it was resized while some were under way",
            "It ends by itself. If it happens often, shorten the transactions.",
        )
    ahead = shape.clock / STAMPS_PER_SECOND - cache.stamp_of_time() / STAMPS_PER_SECOND
    if ahead > _AHEAD:
        yield problem(
            f"the segment's clock is {ahead:,.0f} s ahead of this machine's",
            f"zoocache resize {cache.segment.size} makes the segment anew.",
        )
    if not waiting and not taken:
        yield ok("no commit of a dead process is announced")


def _processes(cache: Cache) -> Iterator[Finding]:
    path = path_of(cache.segment.name)
    pids = host.pids_using(path)
    owners = owner_pids(cache)
    if group_of(cache.segment.name) is not None:  # what others have mapped only root may see
        pids = sorted({*pids, *filter(None, owners)})
    others = [pid for pid in pids if pid != os.getpid()]
    if others:
        yield ok(f"it is used by {len(others)} processes: {listed(others)}")
    else:
        yield note(
            "no other process that can be seen here uses it",
            "If your workers are running, they use another name, or another /dev/shm.",
        )
    hidden = sum(pid == 0 for pid in owners)
    if hidden:
        yield note(f"{hidden} processes of other pid namespaces (containers) use it, too")
    if len(owners) > 0.9 * MOST_OWNERS:
        yield warning(
            f"{len(owners)} of {MOST_OWNERS} places for processes that write are taken",
            "The next ones compute without stampede protection, and their commits make "
            "everybody miss: run fewer processes on one segment.",
        )
    stopped = [pid for pid in others if _is_stopped(pid)]
    if stopped:
        yield warning(
            f"processes that are stopped use it: {listed(stopped)}",
            "Whatever they were computing, or committing, is computed by others after their "
            "lease. Continue them (kill -CONT) or end them.",
        )
    here = host.time_namespace()
    strangers = [pid for pid in others if host.time_namespace(pid) not in ("", here)]
    if strangers:
        yield problem(
            f"processes in another time namespace use it: {listed(strangers)}",
            "Expiry and quarantines are measured by a clock that differs there: start all "
            "processes of a segment in one time namespace.",
        )


def _is_stopped(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] in ("T", "t")


def _counters(stats: dict[str, int], segment: Segment) -> Iterator[Finding]:
    gets = stats["hits"] + stats["misses"]
    if stats["differed"]:
        yield problem(
            f"shadow mode found {stats['differed']} of {stats['compared']} hits that were not "
            f"what the database says",
            "The log zoocache.shadow has their SQL. Something writes to the database that zoocache "
            "does not see: docs/limits.md lists what, and what to do.",
        )
    if stats["corrupt"]:
        yield warning(
            f"{stats['corrupt']} records failed their checksum, and were misses",
            "A few come from writers that were stopped for very long. Many mean that something "
            "else writes to the segment, or bad memory.",
        )
    if stats["too_large"]:
        yield warning(
            f"{stats['too_large']} values were not stored: the largest record is "
            f"{segment.max_record:,} bytes, about a tenth of the segment",
            "Enlarge the segment (SIZE, zoocache resize), or cache less at once.",
        )
    squeezed = stats["lapped"] + stats["evictions"]
    if gets and squeezed > 0.1 * gets:
        yield warning(
            f"the segment is small for what is asked for: {squeezed:,} entries were pushed out, "
            f"and {gets:,} gets made",
            f"Enlarge it: zoocache resize {2 * segment.size}, and SIZE in the settings.",
        )
    if stats["no_lane"]:
        yield warning(
            f"{stats['no_lane']} commits found no free lane, and everybody missed for a while",
            "More than 64 transactions were committing at once: shorten them.",
        )
    if stats["pending"] > 0.1 * gets > 0:
        yield note(
            f"{stats['pending']:,} of {gets:,} gets missed because of commits under way",
            "Long commits, or workers that die in them: look for slow COMMITs.",
        )
