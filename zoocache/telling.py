"""Keys, tags, entries and events in words: for whoever asks, in a terminal or on a page."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from zoocache import store
from zoocache.exceptions import InvalidKeyError
from zoocache.shm import Cache
from zoocache.shm.events import Cause, Event, events, hash_of
from zoocache.shm.explain import EVERYTHING, Entry, State, explain

_DIGESTS = {b"q": "query", b"r": "query", b"f": "result"}
_DIGEST = 21  # bytes, with the letter in front
_MOST_TOLD = 20_000
_WHOLE = 24  # bytes of a tag's text that an event has room for

_VERDICTS = {
    State.FRESH: "a hit",
    State.ABSENT: "a miss: never stored, or evicted, or deleted",
    State.STALE: "a miss: it was invalidated",
    State.EXPIRED: "a miss: its time to live is over",
    State.PENDING: "a miss: a commit that changes it is under way",
}


def written_key(key: bytes) -> str:
    """A key as text that `read_key` takes: itself, or 0x and hexadecimal digits."""
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return "0x" + key.hex()
    return text if text.isprintable() and not text.startswith("0x") else "0x" + key.hex()


def read_key(text: str) -> bytes:
    """The key that `written_key` wrote; InvalidKeyError for 0x without hexadecimal digits."""
    if not text.startswith("0x"):
        return text.encode("utf-8", "surrogatepass")
    try:
        return bytes.fromhex(text[2:])
    except ValueError as error:
        raise InvalidKeyError(
            f"{text!r} is no key: hexadecimal digits, two for each byte, follow 0x"
        ) from error


def label_of(key: bytes) -> str:
    """What a key is, in short: its text, or the kind of what it names and a part of its digest."""
    kind = _DIGESTS.get(key[:1]) if len(key) == _DIGEST else None
    text = written_key(key)
    return f"{kind} {key[1:5].hex()}" if kind and text.startswith("0x") else text


def verdict(state: State) -> str:
    """What a get comes to."""
    return _VERDICTS.get(state) or f"a miss: {state.name.lower()}"


def printable(text: str) -> str:
    """A text without what a terminal would obey: a tag may hold anything."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


class Names:
    """Tags by their hashes, as far as somebody has told them: events do, and frameworks.

    What events have told is forgotten when it has become very much.
    """

    def __init__(
        self, cache: Cache, known: Iterable[str] = (), told: Callable[[str], str] = str
    ) -> None:
        self._cache = cache
        self._told = told
        self._tags = {EVERYTHING: "everything"}
        self._from_events: dict[bytes, str] = {}
        self.learn(known)

    def learn(self, tags: Iterable[str]) -> None:
        """Takes note of tags."""
        self._tags.update((hash_of(self._cache, tag), self._told(tag)) for tag in tags)

    def learn_events(self, ring: Iterable[Event]) -> None:
        """Takes note of what events say of their tags: of most, all."""
        if len(self._from_events) > _MOST_TOLD:
            self._from_events.clear()
        for event in ring:
            if event.text and not self.knows(event.tag):
                self._from_events[event.tag] = printable(self._name_of(event))

    def _name_of(self, event: Event) -> str:
        if event.cause in (Cause.DELETE, Cause.FAILED_SET):
            return f"key {written_key(event.text.encode())}"
        if "" not in event.text.split(":") and hash_of(self._cache, event.text) == event.tag:
            return self._told(event.text)
        # A character that was cut has become a mark of three bytes.
        return event.text + "…" if len(event.text.encode()) >= _WHOLE else event.text

    def knows(self, tag: bytes) -> bool:
        return tag in self._tags or tag in self._from_events

    def of(self, tag: bytes) -> str:
        """The tag with that hash; its hash where it is not known."""
        return self._tags.get(tag) or self._from_events.get(tag) or f"tag {tag.hex()}"


class Dropped(NamedTuple):
    """One invalidation, or one commit: all events of one clock."""

    when: float
    """Unix time, in seconds."""
    pid: int
    cause: str
    names: tuple[str, ...]
    """The shortest first, which says most: a row, before all that goes with it."""
    unnamed: int
    """How many more tags there were, whose names nobody told."""

    @property
    def what(self) -> str:
        if not self.unnamed:
            return ", ".join(self.names)
        more = f"{self.unnamed} more" if self.names else f"{self.unnamed} tags"
        return ", ".join([*self.names, more])


def dropped(ring: Sequence[Event], names: Names) -> list[Dropped]:
    """What was dropped, the newest first; tags that were dropped together make one."""
    found = []
    for _, together in itertools.groupby(reversed(ring), lambda event: (event.clock, event.pid)):
        group = list(together)
        known = [names.of(event.tag) for event in group if names.knows(event.tag)]
        shown = sorted(set(known), key=lambda name: (len(name), name))
        found.append(
            Dropped(
                group[0].when, group[0].pid, told_cause(group[0].cause),
                tuple(shown), len(group) - len(known),
            )
        )  # fmt: skip
    return found


def told_cause(cause: Cause) -> str:
    """Why a tag was dropped, in words."""
    return cause.name.lower().replace("_", " ")


def told_event(event: Event, name: str, times: str = "") -> str:
    """When a tag was dropped, by which process and why."""
    ago = time.time() - event.when
    what = printable(name) or event.tag.hex()
    return f"{what}: {times}{ago:.1f} s ago by process {event.pid} ({told_cause(event.cause)})"


def why_tag(tag: str, told: Callable[[str], str] = str) -> str:
    """Tells when what depends on a tag was invalidated, as far back as the ring of events goes.

    `told` puts the tags of a framework into words.
    """
    target = store.writer()
    if target is None:
        return "There is no segment: nothing is cached, and nothing was invalidated."
    means = {above for one in store.meaning([tag]) | store.expanded(tag) for above in _path(one)}
    meant = {hash_of(target, one): told(one) for one in means}
    meant[EVERYTHING] = "everything"
    ring = events(target)
    happened = [event for event in ring if event.tag in meant]
    lines = []
    for _, run in itertools.groupby(happened, lambda event: (event.tag, event.pid, event.cause)):
        same = list(run)
        times = f"{len(same)} times, the last " if len(same) > 1 else ""
        lines.append(f"  {told_event(same[-1], meant[same[-1].tag], times)}")
    since = f"of the last {len(ring)} invalidations" if ring else "of no invalidation at all"
    return "\n".join([f"{tag}: {len(happened)} {since} on this host", *lines])


def _path(tag: str) -> Iterable[str]:
    """A tag and those above it: what depends on it falls with each of them."""
    return itertools.accumulate(tag.split(":"), lambda above, part: f"{above}:{part}")


def why_key(cache: Cache, key: bytes, names: Names) -> tuple[Entry, str]:
    """What a get of the key would come to, and what dropped it."""
    entry, kept = explain(cache, key), events(cache)
    names.learn_events(kept)
    ring = {event.tag: event for event in kept if event.clock > entry.stamp}
    lines = [f"{label_of(key)}: {verdict(entry.state)}"]
    if entry.stamp:
        own = 2  # its key's own tag, and everything
        lines.append(f"  {entry.size:,} bytes, depends on {len(entry.deps) - own} tags")
        if entry.expires is not None:
            left = entry.expires - time.time()
            lines.append(f"  its time to live ends in {left:,.0f} s" if left > 0 else "  expired")
        known = [names.of(tag) for tag in entry.deps[:-own] if names.knows(tag)]
        if known:
            lines.append("  among them: " + ", ".join(sorted(known)))
    for tag in entry.bumped:
        if tag in ring:
            lines.append("  " + told_event(ring[tag], names.of(tag)))
        else:
            lines.append(f"  {names.of(tag)}: longer ago than is remembered, or made coarser")
    return entry, "\n".join(lines)
