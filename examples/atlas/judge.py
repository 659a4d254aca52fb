"""Judges the responses of a site: does each show what had been written before it was asked for?

The judge hears of every write before it is sent and again when it has been answered. A response is
then held against the writes that had been *answered before the request was sent*:

stale   it shows a population older than one of those, a sum that lacks one of those, or leaves a
        city out of a list of the largest although one of those writes had made it large enough;
wrong   it shows a population that nobody wrote, a sum above all that was ever sent, or not the
        city that was asked for.

Writes to one city take turns and only ever raise its population, so "older" is "smaller". A write
on its way may be shown or not. Order is counted in ticks, not seconds: all clients live in one
process and ask one judge, so that a smaller tick did happen before.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

SHOWN_IN_HTML = re.compile(rb'data-city="(\d+)"\s+data-population="(\d+)"')
SUMS_IN_HTML = re.compile(rb'data-country="(\w+)"\s+data-people="(\d+)"')
WORLD = "the world"  # in place of a country


class Known(NamedTuple):
    """What is known of a city before the first write."""

    country: str
    population: int


@dataclass
class Write:
    """A population that was sent to the site; `answered` stays None until the response is here."""

    city: int
    population: int
    worker: int | None = None
    answered: int | None = None


@dataclass(frozen=True)
class Response:
    """What one successful read showed."""

    url: str
    worker: int
    asked: int  # Judge.tick() taken before the request was sent
    shown: list[tuple[int, int]]  # (city, population), as often as they occur
    cached: bool = True  # read through the cache, not with ?cache=off
    subject: int | None = None  # the city that the page is about
    largest_of: str | None = None  # the country, or WORLD, whose largest cities the page lists
    sums: Sequence[tuple[str, int]] = ()  # (country, people in its cities)


@dataclass(frozen=True)
class Fault:
    """What one response should have shown otherwise."""

    kind: str  # "stale" or "wrong"
    response: Response
    of: str  # "city 1" or "sum of FR"
    expected: str
    actual: str
    writer: int | None = None

    def __str__(self) -> str:
        wrote = f", written by worker {self.writer}" if self.writer else ""
        return (
            f"{self.kind}: {self.response.url} from worker {self.response.worker}, "
            f"{self.of}: expected {self.expected}{wrote}; got {self.actual}"
        )


class Judge:
    """Knows what was written when, and judges responses. Its methods may be called from threads.

    judged          how many populations were looked at
    stale, wrong    the faults found
    seen_elsewhere  how often a worker that had shown an older population of a city through the
                    cache then showed, still through the cache, one that another worker had written
    """

    def __init__(self, cities: Mapping[int, Known]) -> None:
        self.cities = cities
        self.sums: Counter[str] = Counter()  # of each country, before the first write
        for country, population in cities.values():
            self.sums[country] += population
        self.judged = 0
        self.stale: list[Fault] = []
        self.wrong: list[Fault] = []
        self.seen_elsewhere = 0
        self._ticks = itertools.count(1)
        self._lock = threading.Lock()
        self._turns: defaultdict[int, threading.Lock] = defaultdict(threading.Lock)
        self._writes: defaultdict[int, list[Write]] = defaultdict(list)
        self._written_in: defaultdict[str, set[int]] = defaultdict(set)
        self._last_shown: dict[tuple[int, int], int] = {}  # (worker, city) -> population

    def tick(self) -> int:
        """Return the present moment."""
        with self._lock:
            return next(self._ticks)

    @contextmanager
    def writing(self, city: int, more: int = 1) -> Iterator[Write]:
        """Take this city's turn and yield the write to send: `more` people than ever before."""
        with self._lock:
            turn = self._turns[city]
        with turn:
            with self._lock:
                earlier = self._writes[city]
                before = earlier[-1].population if earlier else self.cities[city].population
                write = Write(city, before + more)
                earlier.append(write)
                for place in (self.cities[city].country, WORLD):
                    self._written_in[place].add(city)
            yield write

    def answered(self, write: Write, worker: int) -> None:
        """Note that the site has confirmed a write: from now on it has to be seen."""
        with self._lock:
            write.worker = worker
            write.answered = next(self._ticks)

    def examine(self, response: Response) -> list[Fault]:
        """Return what is wrong with a response, after counting it."""
        with self._lock:
            faults = [
                *self._wrongly_shown(response),
                *self._wrongly_absent(response),
                *self._wrongly_summed(response),
            ]
            self.judged += len(response.shown) + len(response.sums)
            self.stale += [fault for fault in faults if fault.kind == "stale"]
            self.wrong += [fault for fault in faults if fault.kind == "wrong"]
            if response.cached:
                self._note_hand_over(response)
        return faults

    def _wrongly_shown(self, response: Response) -> Iterator[Fault]:
        for city, population in response.shown:
            if not self._was_ever(city, population):
                expected = "a population that somebody wrote"
                yield Fault("wrong", response, f"city {city}", expected, str(population))
                continue
            due = self._due(city, response.asked)
            if due and population < due.population:
                expected = f"{due.population} or more"
                actual = str(population)
                yield Fault("stale", response, f"city {city}", expected, actual, due.worker)

    def _wrongly_absent(self, response: Response) -> Iterator[Fault]:
        shown = dict(response.shown)
        if response.subject is not None and response.subject not in shown:
            of = f"city {response.subject}"
            yield Fault("wrong", response, of, "to see it", "a page without it")
        if response.largest_of is None or not shown:
            return
        smallest = min(shown.values())
        for city in self._written_in[response.largest_of] - shown.keys():
            due = self._due(city, response.asked)
            if due and due.population > smallest:
                expected = f"to see it, with {due.population} or more"
                actual = f"a list that goes down to {smallest} without it"
                yield Fault("stale", response, f"city {city}", expected, actual, due.worker)

    def _wrongly_summed(self, response: Response) -> Iterator[Fault]:
        for country, people in response.sums:
            least = most = self.sums[country]
            for city in self._written_in[country]:
                before = self.cities[city].population
                due = self._due(city, response.asked)
                least += due.population - before if due else 0
                most += self._writes[city][-1].population - before
            if people < least:
                yield Fault("stale", response, f"sum of {country}", f"{least} or more", str(people))
            elif people > most:
                yield Fault("wrong", response, f"sum of {country}", f"{most} or less", str(people))

    def _was_ever(self, city: int, population: int) -> bool:
        return city in self.cities and (
            population == self.cities[city].population
            or any(write.population == population for write in self._writes[city])
        )

    def _due(self, city: int, asked: int) -> Write | None:
        """Return the last write to `city` that had been answered at the tick `asked`."""
        for write in reversed(self._writes[city]):
            if write.answered is not None and write.answered < asked:
                return write
        return None

    def _note_hand_over(self, response: Response) -> None:
        for city, population in response.shown:
            seen_by = (response.worker, city)
            before = self._last_shown.setdefault(seen_by, population)
            if population > before:
                self._last_shown[seen_by] = population
                writers = [w.worker for w in self._writes[city] if w.population == population]
                if writers and writers[0] not in (None, response.worker):
                    self.seen_elsewhere += 1


def shown_in(content_type: str, body: bytes) -> list[tuple[int, int]]:
    """Return the (city, population) pairs that a page or a JSON response shows."""
    if not content_type.startswith("application/json"):
        return [(int(city), int(population)) for city, population in SHOWN_IN_HTML.findall(body)]
    document = json.loads(body)
    return [(row["id"], row["population"]) for row in document.get("results", [document])]


def sums_in(content_type: str, body: bytes) -> list[tuple[str, int]]:
    """Return the (country, people in its cities) pairs that a page or a JSON response shows."""
    if not content_type.startswith("application/json"):
        return [(code.decode(), int(people)) for code, people in SUMS_IN_HTML.findall(body)]
    document = json.loads(body)
    return [(document["country"]["code"], document["people"])] if "people" in document else []
