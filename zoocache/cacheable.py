"""`@cacheable`: the results of functions, kept until one of their tags is invalidated."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import blake2b
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

from zoocache import codec, config, local, notices, sites, store
from zoocache.exceptions import TagError, UnstorableError
from zoocache.identity import CACHED, identity_of, name_of
from zoocache.shm import Cache, Flight, Landing, Outcome
from zoocache.turns import Found, Wanted

P = ParamSpec("P")
R = TypeVar("R")

Tags = Iterable[str] | Callable[..., Iterable[str]]


class Frame:
    """A computation under way: what its result will depend on, and when it began."""

    __slots__ = ("deps", "leads", "observes", "outer", "stamp", "storable", "tags")

    def __init__(
        self, stamp: int, leads: bool = False, observes: bool = False, outer: Frame | None = None
    ) -> None:
        self.stamp = stamp
        self.outer = outer
        self.observes = observes  # depends on all that it reads, cached or not
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


current_frame: Callable[[], Frame | None] = _frame.get
"""Returns the innermost cached computation of this thread or task."""


@contextmanager
def computing(stamp: int, *, leads: bool = False, observes: bool = False) -> Iterator[Frame]:
    """Runs a computation in a frame of its own and hands what it used to the enclosing one.

    One that `observes` depends on everything that a framework sees it read, not
    only on what was cached.
    """
    outer = _frame.get()
    frame = Frame(
        stamp,
        leads or (outer is not None and outer.leads),
        observes or (outer is not None and outer.observes),
        outer,
    )
    local.busy.add(frame)  # what is served inside must tell the frame what it depends on
    token = _frame.set(frame)
    try:
        yield frame
    finally:
        _frame.reset(token)
        local.busy.discard(frame)
        if outer is not None:
            outer.absorb(frame)


def _after_fork() -> None:
    # What other threads of the parent were computing is not under way here.
    here, frame = set(), _frame.get()
    while frame is not None:
        here.add(frame)
        frame = frame.outer
    local.busy.difference_update(
        [one for one in local.busy if isinstance(one, Frame) and one not in here]
    )


os.register_at_fork(after_in_child=_after_fork)


def look_up(
    target: Cache,
    entry: bytes,
    decode: Callable[[bytes], Any],
    *,
    newest: int | None,
    grace: float = 0,
) -> Found | None:
    """An entry, decoded; what it depends on goes to the enclosing computation.

    One that is newer than the stamp `newest` counts as missing: it may not be what
    an open snapshot shows. Within `grace` seconds it may be one that has expired.
    """
    try:
        copies = local.copies_of(target)
        if copies is None and newest is None and not grace and _frame.get() is None:
            data = target.get(entry)
            return None if data is None else Found(decode(data))
        found = target.get_with_deps(entry, grace=grace)
        if found is None or (newest is not None and found.stamp > newest):
            return None
        value = decode(found.value)
    except codec.StaleFormat:
        return None
    absorb(found.deps)
    if copies is None or not found.fresh:
        return Found(value, found.fresh)
    return Found(value, copy=local.Copy(copies, entry, found.deps, found.stamp, found.expiry))


def look_up_copy(copies: local.Map, key: Hashable, *, newest: int | None) -> Any:
    """A value that this process has kept, or None; the rest is as in `look_up`."""
    if newest is None and _frame.get() is None:
        return copies.get(key)
    found = copies.find(key)
    if found is None or (newest is not None and found[2] > newest):
        return None
    absorb(found[1])
    return found[0]


def absorb(deps: bytes) -> None:
    """Hands the dependency hashes of what was served to the computation under way."""
    frame = _frame.get()
    if frame is not None:
        frame.absorb_hit(deps)


def store_entry(
    target: Cache,
    entry: bytes,
    encoded: bytes,
    stamp: int,
    *,
    what: str,
    ttl: float | None,
    tags: Iterable[str],
    deps: bytes = b"",
    fill: sites.Fill | None = None,
) -> Landing:
    """Stores a computed value; `what` names it in the log if it is too large."""
    seconds = ttl if ttl is not None else store.settings().ttl
    outcome = target.fill(entry, encoded, stamp, ttl=seconds, tags=tags, deps=deps)
    if outcome is Outcome.TOO_LARGE:
        store.log_too_large(what, target)
    if fill is not None:
        fill.landed(outcome is Outcome.STORED, len(encoded))
    stored = outcome in (Outcome.STORED, Outcome.OLDER)
    return Landing.STORED if stored else Landing.UNSTORED


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
    does: a function of the arguments, asked at each call, or a template such
    as "user:{user_id}".

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

    return _decorator(ttl=ttl, deps=deps, key=key, grace=grace, wait=wait)


def observing(
    *,
    ttl: float | None = None,
    deps: Tags = (),
    key: Callable[..., object],
    name: str | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """`cacheable` for a function that depends on everything a framework sees it read.

    `name` is what it is called where people look; default: the function's.
    """
    return _decorator(ttl=ttl, deps=deps, key=key, grace=0, wait=10, observes=True, name=name)


def _decorator(*, deps: Tags, **options: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
    given = deps if callable(deps) else tuple(deps)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        wrapped: Callable[P, R] = _Recipe(function, deps=given, **options).wrapper()
        return wrapped

    return decorate


class _Call(NamedTuple):
    target: Cache
    entry: bytes
    namespace: bytes
    oldest: int | None
    """The stamp of the oldest snapshot that the computation may read from."""
    began: int | None
    """The stamp since when its arguments may have been loaded."""
    usual: bool
    """May what is found be served to the next call without asking?"""

    def stamp(self) -> int:
        """The stamp of a computation that begins now."""
        known = (self.target.stamp(), self.oldest, self.began)
        return min(stamp for stamp in known if stamp is not None)


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
        *,
        ttl: float | None,
        deps: tuple[str, ...] | Callable[..., Iterable[str]],
        key: str | Callable[..., object] | None,
        grace: float,
        wait: float,
        observes: bool = False,
        name: str | None = None,
    ) -> None:
        self.observes = observes
        self.grace = grace
        self.patience = wait
        self.function = function
        self.ttl = ttl
        self.deps = deps
        self.key = key
        self.signature = inspect.signature(function) if isinstance(key, str) else None
        self.name = name or name_of(function)
        self.site = sites.of_function(self.name)

    @functools.cached_property
    def identity(self) -> bytes:
        # At the first call and not before: only then is a closure complete.
        return identity_of(self.function, closure=self.key is None)

    def entry_key(
        self, namespace: bytes, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> bytes | None:
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
            encoded = self.identity + namespace + codec.encode_name(named)
        except UnstorableError as error:
            store.log_once(
                f"a call of {self.name} is not cached: what it depends on cannot name an entry "
                f"({error}); give @cacheable a key=, a function of the arguments"
            )
            return None
        return b"f" + blake2b(encoded, digest_size=20).digest()

    def find(self, call: _Call) -> Found | None:
        """The result on a hit; within the grace it may be one that has expired."""
        began = notices.clock()
        found = look_up(call.target, call.entry, codec.decode, newest=call.oldest, grace=self.grace)
        if found is not None:
            self.site.hits += 1
            if notices.reads:
                notices.hit(self.site.label, call.entry, began)
        return found

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Call | None:
        """What a cached call needs; None if it must go uncached."""
        target = store.cache()
        if target is None:
            return None
        guard = store.guard()
        frame = _frame.get()
        if not guard.clean:  # the thread may read what it has not committed
            self._bypassed(target, "the thread may read what it has not committed")
            if frame is not None:
                frame.storable = False
            return None
        entry = self.entry_key(guard.namespace, args, kwargs)
        if entry is None:
            self._bypassed(target, "what it depends on cannot name an entry")
            if frame is not None:
                self.declare(frame, args, kwargs)
            return None
        return _Call(target, entry, guard.namespace, guard.stamp, guard.began, guard.usual)

    def _bypassed(self, target: Cache, reason: str) -> None:
        self.site.bypassed(target)
        notices.bypass(self.site.label, reason, 0)

    def wanted(self, call: _Call) -> Wanted:
        frame = _frame.get()
        leads = frame is not None and frame.leads
        return Wanted(call.target, call.entry, lambda: self.find(call), self.patience, not leads)

    def declare(self, frame: Frame, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        frame.tags.update(self.deps(*args, **kwargs) if callable(self.deps) else self.deps)

    def keep(self, call: _Call, value: object, frame: Frame, fill: sites.Fill) -> Landing:
        """Stores a result, or logs once why not."""
        fill.landed(False, 0)
        guard = store.guard()
        if not frame.storable or not guard.clean or guard.namespace != call.namespace:
            return Landing.UNSTORED
        what = f"a result of {self.name}"
        try:
            return store_entry(
                call.target, call.entry, codec.encode(value), frame.stamp, what=what,
                ttl=self.ttl, tags=store.meaning(frame.tags), deps=b"".join(frame.deps), fill=fill,
            )  # fmt: skip
        except (UnstorableError, TagError) as error:
            store.log_once(f"{what} is not cached: {error}")
            return Landing.UNSTORED

    @contextmanager
    def led(self, call: _Call, flight: Flight | None) -> Iterator[_Lead]:
        """A computation; whoever waits for it is told how it ended."""
        lead = _Lead()
        try:
            leads = flight is not None
            with self.site.filling(call.target) as fill:
                with computing(call.stamp(), leads=leads, observes=self.observes) as frame:
                    lead.frame = frame
                    yield lead
                lead.landing = self.keep(call, lead.value, frame, fill)
            notices.miss(self.site.label, call.entry, fill)
        finally:
            if flight is not None:
                flight.end(lead.landing)

    def wrapper(self) -> Any:
        """The decorated function."""
        is_async = inspect.iscoroutinefunction(self.function)
        wrapper = self.wrap_async() if is_async else self.wrap()
        setattr(wrapper, CACHED, True)
        return wrapper

    def wrap(self) -> Callable[..., Any]:
        """Results that callers may share are served by a memo, past the function below."""
        # A key function may look at more than the arguments: the language, the tenant.
        shares = not callable(self.key)

        def call_through(*args: Any, **kwargs: Any) -> Any:
            call = self.begin(args, kwargs)
            if call is None:
                return self.function(*args, **kwargs)
            found = self.find(call)
            if found is not None and found.fresh:
                if shares and call.usual and not kwargs and found.copy is not None:
                    site = self.site.number_in(call.target)
                    found.copy.keep_result(memo, args, found.value, site)
                return found.value
            turn = self.wanted(call).turn(found)
            if turn.found is not None:
                return turn.found.value
            with self.led(call, turn.flight) as lead:
                self.declare(lead.frame, args, kwargs)
                lead.value = self.function(*args, **kwargs)
            return lead.value

        memo = local.memo(call_through)
        return functools.update_wrapper(memo, self.function)

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
            turn = await self.wanted(call).turn_async(found)
            if turn.found is not None:
                return turn.found.value
            with self.led(call, turn.flight) as lead:
                self.declare(lead.frame, args, kwargs)
                lead.value = await function(*args, **kwargs)
            return lead.value

        return wrapper
