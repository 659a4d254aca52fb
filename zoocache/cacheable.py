"""`@cacheable`: the results of functions, kept until one of their tags is invalidated."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import blake2b
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

from zoocache import codec, config, store
from zoocache.exceptions import TagError, UnstorableError
from zoocache.identity import CACHED, identity_of, name_of
from zoocache.shm import Cache

P = ParamSpec("P")
R = TypeVar("R")
Tags = Iterable[str] | Callable[..., Iterable[str]]


class Frame:
    """A computation under way: what its result will depend on, and when it began."""

    __slots__ = ("deps", "stamp", "storable", "tags")

    def __init__(self, stamp: int) -> None:
        self.stamp = stamp
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
def computing(stamp: int) -> Iterator[Frame]:
    """Runs a computation in a frame of its own and hands what it used to the enclosing one."""
    outer = _frame.get()
    frame = Frame(stamp)
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
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Keeps the results of a function, sync or async, for all processes of the host.

    `ttl` in seconds (default: the setting). `deps` are the tags that drop a
    result: a list, or a function of the arguments that returns one. Entries are
    told apart by the function and its arguments; where those cannot be stored
    (a request, a model instance), or should not all count, `key` says what
    does: a function of the arguments, or a template such as "user:{user_id}".

    The function itself counts with its code, its defaults and, without a `key`,
    the values that it closes over.

    A result that cannot be stored faithfully is returned all the same and the
    reason is logged once. None is a result like any other.
    """
    if isinstance(deps, str):
        raise TagError(f"deps are a list, not the string {deps!r}: write [{deps!r}]")
    config.check_ttl(ttl)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        recipe = _Recipe(function, ttl, deps if callable(deps) else tuple(deps), key)
        is_async = inspect.iscoroutinefunction(function)
        wrapper = recipe.wrap_async() if is_async else recipe.wrap()
        setattr(wrapper, CACHED, True)
        return wrapper

    return decorate


class _Call(NamedTuple):
    target: Cache
    entry: bytes
    stamp: int


class _Recipe:
    """A decorated function: how to name its entries, find them and fill them."""

    def __init__(
        self,
        function: Callable[..., Any],
        ttl: float | None,
        deps: tuple[str, ...] | Callable[..., Iterable[str]],
        key: str | Callable[..., object] | None,
    ) -> None:
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

    def find(self, call: _Call) -> tuple[bool, Any]:
        """(True, the value) on a hit."""
        frame = _frame.get()
        try:
            if frame is None:
                data = call.target.get(call.entry)
                return (False, None) if data is None else (True, codec.decode(data))
            found = call.target.get_with_deps(call.entry)
            if found is None:
                return False, None
            value = codec.decode(found.value)
            frame.absorb_hit(found.deps)
            return True, value
        except codec.StaleFormat:
            return False, None

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Call | None:
        """What a cached call needs; None if it must go uncached."""
        target = store.cache()
        if target is None:
            return None
        stamp = target.stamp()
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
        return _Call(target, entry, stamp if guard.stamp is None else min(stamp, guard.stamp))

    def declare(self, frame: Frame, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        frame.tags.update(self.deps(*args, **kwargs) if callable(self.deps) else self.deps)

    def keep(self, call: _Call, value: object, frame: Frame) -> None:
        """Stores a result, or logs once why not."""
        if not frame.storable or not store.guard().clean:
            return
        ttl = self.ttl if self.ttl is not None else store.settings().ttl
        try:
            call.target.fill(
                call.entry, codec.encode(value), frame.stamp,
                ttl=ttl, tags=store.meaning(frame.tags), deps=b"".join(frame.deps),
            )  # fmt: skip
        except (UnstorableError, TagError) as error:
            store.log_once(f"a result of {self.name} is not cached: {error}")

    def wrap(self) -> Callable[..., Any]:
        @functools.wraps(self.function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            call = self.begin(args, kwargs)
            if call is None:
                return self.function(*args, **kwargs)
            hit, value = self.find(call)
            if hit:
                return value
            with computing(call.stamp) as frame:
                self.declare(frame, args, kwargs)
                value = self.function(*args, **kwargs)
            self.keep(call, value, frame)
            return value

        return wrapper

    def wrap_async(self) -> Callable[..., Any]:
        function = cast("Callable[..., Awaitable[Any]]", self.function)

        @functools.wraps(self.function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            call = self.begin(args, kwargs)
            if call is None:
                return await function(*args, **kwargs)
            hit, value = self.find(call)
            if hit:
                return value
            with computing(call.stamp) as frame:
                self.declare(frame, args, kwargs)
                value = await function(*args, **kwargs)
            self.keep(call, value, frame)
            return value

        return wrapper
