"""`@cacheable`: the results of functions, kept until one of their tags is invalidated."""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import blake2b
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

from zoocache import codec, config, store
from zoocache.exceptions import TagError, UnstorableError
from zoocache.identity import CACHED, identity_of, name_of
from zoocache.shm import Cache, Flight, Landing, Outcome

P = ParamSpec("P")
R = TypeVar("R")
POLL_SECONDS = 0.002  # how often a task looks whether another has computed its value

Tags = Iterable[str] | Callable[..., Iterable[str]]


class Frame:
    """A computation under way: what its result will depend on, and when it began."""

    __slots__ = ("deps", "leads", "stamp", "storable", "tags")

    def __init__(self, stamp: int, leads: bool = False) -> None:
        self.stamp = stamp
        self.leads = leads  # others may be waiting for it, or for one that it is part of
        self.tags: set[str] = set()
        self.deps: set[bytes] = set()
        self.storable = True

    def absorb(self, inner: Frame) -> None:
        """Takes over all that the result of an inner computation depends on."""
        self.stamp = min(self.stamp, inner.stamp)
        self.tags |= inner.tags
        self.deps |= inner.deps
        self.storable = self.storable and inner.storable

    def absorb_hit(self, deps: bytes) -> None:
        """Takes over the dependency hashes of an entry that was served to this computation."""
        self.deps.update(deps[i : i + 8] for i in range(0, len(deps), 8))


_frame: ContextVar[Frame | None] = ContextVar("zoocache_frame", default=None)


def current_frame() -> Frame | None:
    """The innermost cached computation of this thread or task."""
    return _frame.get()


@contextmanager
def computing(stamp: int, *, leads: bool = False) -> Iterator[Frame]:
    """Runs a computation in a frame of its own and hands what it used to the enclosing one."""
    outer = _frame.get()
    frame = Frame(stamp, leads or (outer is not None and outer.leads))
    token = _frame.set(frame)
    try:
        yield frame
    finally:
        _frame.reset(token)
        if outer is not None:
            outer.absorb(frame)


def add_deps(tags: Iterable[str]) -> None:
    """Makes the result of the enclosing `@cacheable` function depend on further tags.

    Does nothing outside of one, so that helpers may call it always.
    """
    frame = _frame.get()
    if isinstance(tags, str):
        raise TagError(f"tags are a list, not the string {tags!r}: write [{tags!r}]")
    if frame is not None:
        frame.tags.update(tags)


def cacheable(
    *,
    ttl: float | None = None,
    deps: Tags = (),
    key: str | Callable[..., object] | None = None,
    grace: float = 0,
    wait: float = 10,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Keeps the results of a function, sync or async, for all processes of the host.

    `ttl` in seconds (default: the setting). `deps` are the tags that drop a
    result: a list, or a function of the arguments that returns one. Entries are
    told apart by the function and its arguments; where those cannot be stored
    (a request, a model instance), or should not all count, `key` says what
    does: a function of the arguments, or a template such as "user:{user_id}".

    Of all callers on the host that miss at once, in threads, processes and tasks,
    one computes and the others wait for it: at most `wait` seconds, after which,
    or if the one is dead, they compute themselves. An exception stays with the
    call that raised it, and the next caller computes. With `grace`, a result
    that expired less than so many seconds ago is returned while somebody
    computes it anew; one that was invalidated never is.

    The function itself counts with its code, its defaults and, without a `key`,
    the values that it closes over.

    A result that cannot be stored faithfully is returned all the same and the
    reason is logged once. None is a result like any other.
    """
    if isinstance(deps, str):
        raise TagError(f"deps are a list, not the string {deps!r}: write [{deps!r}]")
    config.check_ttl(ttl)
    config.check_seconds(wait, "wait")
    if grace != 0:
        config.check_seconds(grace, "grace")

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        recipe = _Recipe(function, ttl, deps if callable(deps) else tuple(deps), key, grace, wait)
        is_async = inspect.iscoroutinefunction(function)
        wrapper = recipe.wrap_async() if is_async else recipe.wrap()
        setattr(wrapper, CACHED, True)
        return wrapper

    return decorate


class _Call(NamedTuple):
    target: Cache
    entry: bytes
    oldest: int | None
    """The stamp of the oldest snapshot that the computation may read from."""

    def stamp(self) -> int:
        """The stamp of a computation that begins now."""
        now = self.target.stamp()
        return now if self.oldest is None else min(now, self.oldest)


class _Found(NamedTuple):
    value: Any
    fresh: bool


class _Turn(NamedTuple):
    """What a caller who missed is to do: compute, or return what was found meanwhile."""

    flight: Flight | None
    found: _Found | None


class _Lead:
    """A computation under way and, in the end, its value."""

    frame: Frame
    value: Any = None
    landing = Landing.FAILED


class _Recipe:
    """A decorated function: how to name its entries, find them and fill them."""

    def __init__(
        self,
        function: Callable[..., Any],
        ttl: float | None,
        deps: tuple[str, ...] | Callable[..., Iterable[str]],
        key: str | Callable[..., object] | None,
        grace: float,
        wait: float,
    ) -> None:
        self.grace = grace
        self.patience = wait
        self.function = function
        self.ttl = ttl
        self.deps = deps
        self.key = key
        self.signature = inspect.signature(function) if isinstance(key, str) else None
        self.name = name_of(function)

    @functools.cached_property
    def identity(self) -> bytes:
        # At the first call and not before: only then is a closure complete.
        return identity_of(self.function, closure=self.key is None)

    def entry_key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes | None:
        """The key of a call's entry; None, logged once, if the arguments cannot name one."""
        if self.signature is not None:
            bound = self.signature.bind(*args, **kwargs)
            bound.apply_defaults()
            named: object = str(self.key).format_map(bound.arguments)
        elif callable(self.key):
            named = self.key(*args, **kwargs)
        else:
            named = (args, sorted(kwargs.items()))
        try:
            encoded = self.identity + codec.encode_name(named)
        except UnstorableError as error:
            store.log_once(
                f"a call of {self.name} is not cached: what it depends on cannot name an entry "
                f"({error}); give @cacheable a key=, a function of the arguments"
            )
            return None
        return b"f" + blake2b(encoded, digest_size=20).digest()

    def find(self, call: _Call) -> _Found | None:
        """The result on a hit; within the grace it may be one that has expired."""
        frame = _frame.get()
        try:
            if frame is None and not self.grace:
                data = call.target.get(call.entry)
                return None if data is None else _Found(codec.decode(data), True)
            found = call.target.get_with_deps(call.entry, grace=self.grace)
            if found is None:
                return None
            value = codec.decode(found.value)
            if frame is not None:
                frame.absorb_hit(found.deps)
            return _Found(value, found.fresh)
        except codec.StaleFormat:
            return None

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Call | None:
        """What a cached call needs; None if it must go uncached."""
        target = store.cache()
        if target is None:
            return None
        guard = store.guard()
        frame = _frame.get()
        if not guard.clean:  # the thread may read what it has not committed
            if frame is not None:
                frame.storable = False
            return None
        entry = self.entry_key(args, kwargs)
        if entry is None:
            if frame is not None:
                self.declare(frame, args, kwargs)
            return None
        return _Call(target, entry, guard.stamp)

    def take_turn(self, call: _Call, seen: _Found | None) -> _Turn | Flight:
        """One try to lead. A flight that another leads is returned, to be waited for."""
        flight = Flight(call.target, call.entry, self.patience)
        if flight.leads:
            found = self.find(call)  # who led until a moment ago may have stored it
            if found is None or not found.fresh:
                return _Turn(flight, None)
            flight.end(Landing.STORED)
            return _Turn(None, found)
        if seen is not None:  # in grace: somebody is at it
            return _Turn(None, seen)
        frame = _frame.get()
        if frame is not None and frame.leads:
            return _Turn(None, None)  # to wait while others wait for us could be for ever
        return flight

    def after(self, call: _Call, landing: Landing | None) -> _Turn | None:
        """What to do after a wait; None: try again to lead."""
        found = self.find(call)
        if found is not None:
            return _Turn(None, found)
        # What was stored and is not there was invalidated: to wait for the next
        # computation, and the next, would line the callers up.
        return None if landing is Landing.FAILED else _Turn(None, None)

    def wait_turn(self, call: _Call, seen: _Found | None) -> _Turn:
        end = time.monotonic() + self.patience
        while True:
            turn = self.take_turn(call, seen)
            if isinstance(turn, _Turn):
                return turn
            landing = turn.wait(end - time.monotonic())
            done = self.after(call, landing)
            if done is not None:
                return done

    async def wait_turn_async(self, call: _Call, seen: _Found | None) -> _Turn:
        end = time.monotonic() + self.patience
        while True:
            turn = self.take_turn(call, seen)
            if isinstance(turn, _Turn):
                return turn
            while (landing := turn.poll()) is None and time.monotonic() < end:
                await asyncio.sleep(POLL_SECONDS)
            done = self.after(call, landing)
            if done is not None:
                return done

    def declare(self, frame: Frame, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        frame.tags.update(self.deps(*args, **kwargs) if callable(self.deps) else self.deps)

    def keep(self, call: _Call, value: object, frame: Frame) -> Landing:
        """Stores a result, or logs once why not."""
        if not frame.storable or not store.guard().clean:
            return Landing.UNSTORED
        ttl = self.ttl if self.ttl is not None else store.settings().ttl
        try:
            outcome = call.target.fill(
                call.entry, codec.encode(value), frame.stamp,
                ttl=ttl, tags=store.meaning(frame.tags), deps=b"".join(frame.deps),
            )  # fmt: skip
        except (UnstorableError, TagError) as error:
            store.log_once(f"a result of {self.name} is not cached: {error}")
            return Landing.UNSTORED
        if outcome is Outcome.TOO_LARGE:
            store.log_too_large(f"a result of {self.name}", call.target)
        stored = outcome in (Outcome.STORED, Outcome.OLDER)
        return Landing.STORED if stored else Landing.UNSTORED

    @contextmanager
    def led(self, call: _Call, flight: Flight | None) -> Iterator[_Lead]:
        """A computation; whoever waits for it is told how it ended."""
        lead = _Lead()
        try:
            with computing(call.stamp(), leads=flight is not None) as frame:
                lead.frame = frame
                yield lead
            lead.landing = self.keep(call, lead.value, frame)
        finally:
            if flight is not None:
                flight.end(lead.landing)

    def wrap(self) -> Callable[..., Any]:
        @functools.wraps(self.function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            call = self.begin(args, kwargs)
            if call is None:
                return self.function(*args, **kwargs)
            found = self.find(call)
            if found is not None and found.fresh:
                return found.value
            turn = self.wait_turn(call, found)
            if turn.found is not None:
                return turn.found.value
            with self.led(call, turn.flight) as lead:
                self.declare(lead.frame, args, kwargs)
                lead.value = self.function(*args, **kwargs)
            return lead.value

        return wrapper

    def wrap_async(self) -> Callable[..., Any]:
        function = cast("Callable[..., Awaitable[Any]]", self.function)

        @functools.wraps(self.function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            call = self.begin(args, kwargs)
            if call is None:
                return await function(*args, **kwargs)
            found = self.find(call)
            if found is not None and found.fresh:
                return found.value
            turn = await self.wait_turn_async(call, found)
            if turn.found is not None:
                return turn.found.value
            with self.led(call, turn.flight) as lead:
                self.declare(lead.frame, args, kwargs)
                lead.value = await function(*args, **kwargs)
            return lead.value

        return wrapper
