"""The clients of the demo: they read and write the atlas over HTTP and pass on what they saw."""

from __future__ import annotations

import json
import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from judge import WORLD, Judge, Known, Response, shown_in, sums_in

WRITE_SHARE = 0.05
UNCACHED_SHARE = 0.15  # of the reads; the same pages with ?cache=off
VISITS_PER_CONNECTION = (5, 25)  # a connection stays with one worker, so change it often
SEARCHES = ("san", "new", "port", "saint", "bad", "north", "santa", "ville", "burg", "grad", "pur")
TIMEOUT = 30


class Visit(NamedTuple):
    """One page to read, and what the judge may expect to find on it."""

    kind: str
    path: str
    subject: int | None = None
    largest_of: str | None = None


class Sample(NamedTuple):
    """How long one read took, from sending the request to the last byte of the response."""

    kind: str
    cached: bool
    seconds: float


def uncached(path: str) -> str:
    """Return the address of the same page, read from the database."""
    return f"{path}{'&' if '?' in path else '?'}cache=off"


class Popular:
    """Picks items as visitors do: the n-th is asked for about 1/n as often as the first."""

    def __init__(self, items: Sequence) -> None:
        self.items = items
        self.weights = list(accumulate(1 / rank for rank in range(1, len(items) + 1)))

    def pick(self, rng: random.Random):
        return rng.choices(self.items, cum_weights=self.weights)[0]


class World:
    """What the clients know of the site: its places before the first write, and its pages."""

    def __init__(self, database: Path) -> None:
        with closing(sqlite3.connect(database)) as connection:
            rows = connection.execute(
                "SELECT city.id, country.code, city.population, continent.code"
                " FROM places_city city JOIN places_country country"
                " ON country.id = city.country_id JOIN places_continent continent"
                " ON continent.id = country.continent_id ORDER BY city.population DESC"
            ).fetchall()
        self.cities = {city: Known(country, people) for city, country, people, _ in rows}
        sizes = Counter(country for _, country, _, _ in rows)
        self.popular_cities = Popular([city for city, *_ in rows[:2000]])
        self.popular_countries = Popular([country for country, _ in sizes.most_common()])
        self.popular_searches = Popular(SEARCHES)
        self.continents = sorted({continent for *_, continent in rows})

    def visit(self, rng: random.Random) -> Visit:
        """Return the next page that a visitor reads."""
        (page,) = rng.choices(list(PAGES), weights=PAGES.values())
        return page(self, rng)

    def one_of_each(self, rng: random.Random) -> list[Visit]:
        return [page(self, rng) for page in PAGES]

    def city_page(self, rng: random.Random) -> Visit:
        city = self.popular_cities.pick(rng)
        return Visit("city page", f"/cities/{city}/", subject=city)

    def city_json(self, rng: random.Random) -> Visit:
        city = self.popular_cities.pick(rng)
        return Visit("city JSON", f"/api/cities/{city}/", subject=city)

    def country_page(self, rng: random.Random) -> Visit:
        country = self.popular_countries.pick(rng)
        return Visit("country page", f"/countries/{country}/", largest_of=country)

    def country_json(self, rng: random.Random) -> Visit:
        country = self.popular_countries.pick(rng)
        return Visit("country JSON", f"/api/countries/{country}/cities/?page=1", largest_of=country)

    def search(self, rng: random.Random) -> Visit:
        return Visit("search", f"/search/?q={self.popular_searches.pick(rng)}")

    def continent_page(self, rng: random.Random) -> Visit:
        return Visit("continent page", f"/continents/{rng.choice(self.continents)}/")

    def home(self, rng: random.Random) -> Visit:
        return Visit("home", "/", largest_of=WORLD)


PAGES = {  # how often each kind of page is read, in parts of 100
    World.city_page: 30,
    World.city_json: 25,
    World.country_page: 15,
    World.country_json: 12,
    World.search: 8,
    World.continent_page: 5,
    World.home: 5,
}


class Client(threading.Thread):
    """One visitor who reads and writes until `stop` is set, pausing `pause` seconds on average.

    samples, workers (responses by process id), writes and errors say what came of it.
    """

    def __init__(
        self,
        port: int,
        world: World,
        judge: Judge,
        stop: threading.Event,
        seed: int,
        pause: float,
    ) -> None:
        super().__init__(name=f"client-{seed}", daemon=True)
        self.connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
        self.world, self.judge, self.stop, self.pause = world, judge, stop, pause
        self.rng = random.Random(seed)
        self.samples: list[Sample] = []
        self.workers: Counter[int] = Counter()
        self.writes = 0
        self.errors: list[str] = []

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                for _ in range(self.rng.randint(*VISITS_PER_CONNECTION)):
                    if self.stop.wait(self.rng.uniform(0, 2 * self.pause)):
                        break
                    self.write() if self.rng.random() < WRITE_SHARE else self.read()
                self.connection.close()  # the next request opens a new one
        except Exception as error:  # a client that dies must fail the run, not shorten it
            self.errors.append(f"{self.name} stopped: {error!r}")
            raise

    def progress(self) -> tuple[int, int, int]:
        """Return how many reads, writes and errors there have been so far."""
        return len(self.samples), self.writes, len(self.errors)

    def read(self) -> None:
        visit = self.world.visit(self.rng)
        cached = self.rng.random() >= UNCACHED_SHARE
        path = visit.path if cached else uncached(visit.path)
        asked = self.judge.tick()
        started = time.perf_counter()
        answer = self.exchange("GET", path)
        taken = time.perf_counter() - started
        if answer is None:
            return
        worker, content_type, body = answer
        self.samples.append(Sample(visit.kind, cached, taken))
        shown, sums = shown_in(content_type, body), sums_in(content_type, body)
        self.judge.examine(
            Response(path, worker, asked, shown, cached, visit.subject, visit.largest_of, sums)
        )

    def write(self) -> None:
        """Raise the population of a city, of a popular one rather: its pages are being read."""
        city = self.world.popular_cities.pick(self.rng)
        path = f"/api/cities/{city}/"
        with self.judge.writing(city, more=self.rng.randint(1, 1000)) as write:
            method = self.rng.choice(("PATCH", "POST"))
            answer = self.exchange(method, path, {"population": write.population})
            if answer is None:
                return
            worker, content_type, body = answer
            self.judge.answered(write, worker)
        self.writes += 1
        # The answer shows the city as it was written: it is judged like a read that came after.
        shown = shown_in(content_type, body)
        self.judge.examine(
            Response(path, worker, self.judge.tick(), shown, cached=False, subject=city)
        )

    def exchange(
        self, method: str, path: str, document: object = None
    ) -> tuple[int, str, bytes] | None:
        """Return (worker, content type, body); None, and an error noted, if it went wrong."""
        body = None if document is None else json.dumps(document).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            self.connection.request(method, path, body, headers)
            response = self.connection.getresponse()
            content = response.read()
        except (OSError, HTTPException) as error:
            self.connection.close()
            self.errors.append(f"{method} {path}: {error!r}")
            time.sleep(0.1)  # do not hammer a server that is gone
            return None
        worker = int(response.headers.get("X-Worker", 0))
        self.workers[worker] += 1
        if not 200 <= response.status < 300:
            self.errors.append(f"{method} {path}: status {response.status} from worker {worker}")
            return None
        return worker, response.headers.get_content_type(), content
