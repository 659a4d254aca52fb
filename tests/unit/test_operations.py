"""Each operation of `Cache` with usual and odd arguments: what it returns, and what it says.

Time is shifted, not slept: see `Segment.shift_time`.
"""

from __future__ import annotations

import array
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from zoocache.exceptions import (
    InvalidKeyError,
    SegmentRetiredError,
    TagError,
)
from zoocache.shm import Cache, Found, Outcome, unlink
from zoocache.shm.events import events, hash_of

# Each operation that takes a key, as a function of (cache, key).
KEYED: dict[str, Callable[[Cache, Any], Any]] = {
    "get": lambda cache, key: cache.get(key),
    "get_many": lambda cache, key: cache.get_many(["good", key]),
    "get_with_deps": lambda cache, key: cache.get_with_deps(key),
    "set": lambda cache, key: cache.set(key, b"new"),
    "set_many": lambda cache, key: cache.set_many({key: b"new"}),
    "add": lambda cache, key: cache.add(key, b"new"),
    "replace": lambda cache, key: cache.replace(key, b"new"),
    "fill": lambda cache, key: cache.fill(key, b"new", cache.stamp()),
    "touch": lambda cache, key: cache.touch(key),
    "incr": lambda cache, key: cache.incr(key),
    "compare_and_set": lambda cache, key: cache.compare_and_set(key, b"1", b"2"),
    "delete": lambda cache, key: cache.delete(key),
}
# Each operation that stores with options.
STORING: dict[str, Callable[..., Any]] = {
    "set": lambda cache, **options: cache.set("key", b"new", **options),
    "set_many": lambda cache, **options: cache.set_many({"key": b"new"}, **options),
    "add": lambda cache, **options: cache.add("fresh", b"new", **options),
    "replace": lambda cache, **options: cache.replace("key", b"new", **options),
    "fill": lambda cache, **options: cache.fill("key", b"new", cache.stamp(), **options),
}
storing = pytest.mark.parametrize("store", STORING.values(), ids=STORING)
keyed = pytest.mark.parametrize("use", KEYED.values(), ids=KEYED)


def kind(value: object) -> str:
    return re.escape(type(value).__name__)


class TestResults:
    """What each returns where the key has a value, and where it has none."""

    def test_with_a_value(self, cache: Cache) -> None:
        def answer(name: str) -> Any:
            cache.set("key", b"1", tags=["t"])
            return KEYED[name](cache, "key")

        stored = (cache.set("key", b"1", tags=["t"]), cache.get_with_deps("key"))[1]
        assert stored == Found(b"1", hash_of(cache, "t"), True, cache.stamp(), 0)
        assert {name: answer(name) for name in KEYED} == {
            "get": b"1", "get_many": [None, b"1"], "get_with_deps": stored,
            "set": Outcome.STORED, "set_many": {}, "add": False, "replace": True,
            "fill": Outcome.OLDER,  # a set of the same clock is newer
            "touch": True, "incr": 2, "compare_and_set": True, "delete": True,
        }  # fmt: skip

    def test_without_one(self, cache: Cache) -> None:
        def answer(name: str) -> Any:
            cache.delete("key")
            return KEYED[name](cache, "key")

        assert {name: answer(name) for name in KEYED} == {
            "get": None, "get_many": [None, None], "get_with_deps": None,
            "set": Outcome.STORED, "set_many": {}, "add": True, "replace": False,
            "fill": Outcome.STORED,
            "touch": False, "incr": None, "compare_and_set": False, "delete": False,
        }  # fmt: skip

    @pytest.mark.parametrize("how", ["expired", "invalidated", "cleared"])
    def test_with_one_that_is_over(self, cache: Cache, how: str) -> None:
        """As without one: nothing is made of a value that may not be served."""
        for name in ("get", "replace", "touch", "incr", "compare_and_set"):
            cache.set("key", b"1", ttl=5, tags=["t"])
            if how == "expired":
                cache.segment.shift_time(6)
            elif how == "invalidated":
                cache.invalidate("t")
            else:
                cache.clear()
            assert not KEYED[name](cache, "key"), name
            assert cache.get("key") is None
            cache.segment.shift_time(0)
            cache.delete("key")

    def test_in_a_segment_that_was_removed(self, cache: Cache) -> None:
        """Reads find nothing; whatever would be lost says so, and what to do."""
        cache.set("key", b"1")
        stamp = cache.stamp()
        unlink(cache.segment.name)
        reads = {"get": None, "get_many": [None, None], "get_with_deps": None}
        for name, use in KEYED.items():
            if name in reads:
                assert use(cache, "key") == reads[name]
            elif name != "fill":
                with pytest.raises(SegmentRetiredError, match="removed: open it again"):
                    use(cache, "key")
        for drop in (lambda: cache.invalidate("t"), cache.clear):
            with pytest.raises(SegmentRetiredError, match="removed: open it again"):
                drop()
        assert cache.fill("key", b"old", stamp) is Outcome.RETIRED
        assert (cache.stamp(), list(cache.keys())) == (0, [])
        assert cache.segment.retired


class TestKeys:
    GOOD = [b"k", b"\0", b"\xff" * 1024, b"k" * 1024, "ä" * 512, "\U0001f418", "\ud800",
            bytearray(b"array"), memoryview(b"view"), memoryview(b"a-b-c")[::2]]  # fmt: skip

    @pytest.mark.parametrize("key", GOOD, ids=lambda key: f"{type(key).__name__}-{len(key)}")
    def test_good_ones(self, cache: Cache, key: Any) -> None:
        raw = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else bytes(key)
        assert cache.add(key, b"1")
        assert (cache.get(key), cache.get(raw), list(cache.keys())) == (b"1", b"1", [raw])
        assert cache.touch(key, ttl=60)
        assert cache.incr(key) == 2
        assert cache.compare_and_set(key, b"2", b"3")
        assert cache.replace(key, b"4")
        assert cache.get_many([key, raw]) == [b"4", b"4"]
        assert cache.get_with_deps(key) == (b"4", b"", True, cache.stamp(), 0)
        assert cache.delete(key)
        assert cache.fill(key, b"5", cache.stamp()) is Outcome.STORED
        if not isinstance(key, bytearray):  # which is no key of a dict
            assert cache.set_many({key: b"6"}) == {}
            assert cache.get(raw) == b"6"

    BAD = [
        (b"", "a key cannot be empty"),
        ("", "a key cannot be empty"),
        (memoryview(b""), "a key cannot be empty"),
        (b"k" * 1025, "1025 bytes is too long: the most is 1024; hash it first"),
        ("ä" * 513, "1026 bytes is too long: the most is 1024; hash it first"),
        (memoryview(bytes(1025)), "1025 bytes is too long"),
        (42, "a key is bytes or str, not int"),
        (None, "a key is bytes or str, not NoneType"),
        ((b"key",), "a key is bytes or str, not tuple"),
    ]

    @keyed
    @pytest.mark.parametrize(("key", "complaint"), BAD, ids=[repr(key)[:8] for key, _ in BAD])
    def test_bad_ones(self, cache: Cache, use: Any, key: Any, complaint: str) -> None:
        cache.set("good", b"good")
        with pytest.raises(InvalidKeyError, match=complaint) as raised:
            use(cache, key)
        assert isinstance(raised.value, ValueError)
        assert list(cache.keys()) == [b"good"]

    def test_one_whose_memory_was_released(self, cache: Cache) -> None:
        view = memoryview(b"key")
        view.release()
        for use in (cache.get, cache.delete, lambda key: cache.set(key, b"")):
            with pytest.raises(ValueError, match="released"):
                use(view)
        with pytest.raises(ValueError, match="released"):
            cache.set("key", view)

    def test_other_keys_are_other_entries(self, cache: Cache) -> None:
        """Upper and lower case, trailing zeros, and forms of one letter."""
        keys = [b"k", b"K", b"k\0", b"\0k", "ä", "a\u0308", b"\xe4", "", b" "]
        values = {key: repr(key).encode() for key in keys if key}
        cache.set_many(values)
        assert {key: cache.get(key) for key in values} == values


class TestTtl:
    @storing
    @pytest.mark.parametrize("ttl", [0, -1, -1e6, 0.0004])
    def test_none_left(self, cache: Cache, store: Any, ttl: float) -> None:
        """It is stored and expires at once: 0 is not "for ever"."""
        for key in ("key", "fresh"):
            cache.delete(key)
        if store is STORING["replace"]:
            cache.set("key", b"old")
        store(cache, ttl=ttl)
        cache.segment.shift_time(1)
        assert cache.get_many(["key", "fresh"]) == [None, None]
        assert sum(cache.stats()[n] for n in ("expired", "absent")) >= 2

    @storing
    @pytest.mark.parametrize("ttl", [5, 5.0, 4.9999])
    def test_some_seconds(self, cache: Cache, store: Any, ttl: float) -> None:
        if store is STORING["replace"]:
            cache.set("key", b"old")
        store(cache, ttl=ttl)
        cache.segment.shift_time(3)
        assert b"new" in cache.get_many(["key", "fresh"])
        cache.segment.shift_time(6)
        assert cache.get_many(["key", "fresh"]) == [None, None]

    @storing
    @pytest.mark.parametrize("ttl", [None, 9.9e10])
    def test_for_ever(self, cache: Cache, store: Any, ttl: float | None) -> None:
        cache.set("key", b"old", ttl=5)
        if store is STORING["fill"]:
            cache.delete("key")
        store(cache, ttl=ttl)
        cache.segment.shift_time(1e9)
        assert b"new" in cache.get_many(["key", "fresh"])

    @pytest.mark.parametrize("ttl", [float("nan"), float("inf"), 1e11, 10**12])
    def test_what_cannot_be_counted(self, cache: Cache, ttl: float) -> None:
        cache.set("key", b"old")
        for store in STORING.values():
            with pytest.raises(ValueError, match=r"a ttl is a number of seconds below 1e11, not"):
                store(cache, ttl=ttl)
        with pytest.raises(ValueError, match=r"a ttl is a number of seconds below 1e11, not"):
            cache.touch("key", ttl=ttl)
        assert cache.get_many(["key", "fresh"]) == [b"old", None]

    @pytest.mark.parametrize("ttl", ["5", b"5", [5], 1j])
    def test_what_is_no_number(self, cache: Cache, ttl: Any) -> None:
        cache.set("key", b"old")
        for store in (*STORING.values(), lambda cache, ttl: cache.touch("key", ttl=ttl)):
            with pytest.raises(TypeError):
                store(cache, ttl=ttl)
        assert cache.get_many(["key", "fresh"]) == [b"old", None]


class TestTags:
    @storing
    def test_each_drops_and_so_does_what_is_above(self, cache: Cache, store: Any) -> None:
        for tag in ("a", "a:b", "a:b:c", "x", "t" * 100_000):
            cache.delete("key")
            cache.delete("fresh")
            if store is STORING["replace"]:
                cache.set("key", b"old")
            store(cache, tags=iter(["a:b:c", "x", "x", "\ud800", "t" * 100_000]))
            cache.invalidate("a:b:c:d", "b", "y", "t")
            assert b"new" in cache.get_many(["key", "fresh"])
            cache.invalidate(tag)
            assert cache.get_many(["key", "fresh"]) == [None, None], tag

    def test_a_lone_surrogate(self, cache: Cache) -> None:
        """As in a file's name. In another process, which may crash."""
        cache.set("key", b"v", tags=["a:\udcff"])
        script = "import sys; from zoocache.shm import Cache, Segment; "
        drop = "Cache(Segment(sys.argv[1])).invalidate('b', 'a:\\udcff', 'c')"
        done = subprocess.run([sys.executable, "-c", script + drop, cache.segment.name], timeout=60)
        assert done.returncode == 0
        assert cache.get("key") is None
        assert [event.text for event in events(cache)] == ["b", "", "c"]

    @pytest.mark.parametrize(
        ("tags", "deps"),
        [((), 0), (["a"] * 5000, 1), ([f"t{n}" for n in range(4095)], 4095), (["a:b", "a:c"], 3)],
        ids=["none", "duplicates", "most", "prefixes"],
    )
    def test_how_many(self, cache: Cache, tags: Any, deps: int) -> None:
        assert cache.set("key", b"v", tags=tags) is Outcome.STORED
        found = cache.get_with_deps("key")
        assert found is not None
        assert len(found.deps) == 8 * deps
        wanted = {hash_of(cache, path) for tag in tags for path in paths(tag)}
        assert {found.deps[n : n + 8] for n in range(0, 8 * deps, 8)} == wanted

    def test_too_many(self, cache: Cache) -> None:
        many = [f"t{n}" for n in range(4096)]
        deep = [":".join("a" * 4096)]
        for tags in (many, deep):
            cache.set("key", b"old")
            assert cache.set("key", b"new", tags=tags) is Outcome.TOO_LARGE
            assert cache.get("key") is None
            assert cache.set_many({"key": b"new"}, tags=tags) == {"key": Outcome.TOO_LARGE}
            assert cache.fill("key", b"new", cache.stamp(), tags=tags) is Outcome.TOO_LARGE
            assert cache.add("key", b"new", tags=tags) is False
        assert cache.get("key") is None
        cache.set("key", b"v", tags=many[:1])
        cache.invalidate(*many)  # of those there may be any number
        assert cache.get("key") is None

    @storing
    @pytest.mark.parametrize(
        ("tags", "complaint"),
        [
            ("ab", r"tags are a list, not the string 'ab': write \['ab'\]"),
            (b"ab", "a tag is a str, not int"),
            ([b"a"], "a tag is a str, not bytes"),
            (["good", None], "a tag is a str, not NoneType"),
            (["a:"], 'non-empty parts joined by ":", like "Product:42"'),
            (["a\0b"], r"cannot hold a NUL character: 'a\\x00b'"),
        ],
    )
    def test_bad_ones(self, cache: Cache, store: Any, tags: Any, complaint: str) -> None:
        cache.set("key", b"old")
        with pytest.raises(TagError, match=complaint):
            store(cache, tags=tags)
        assert cache.get_many(["key", "fresh"]) == [b"old", None]

    @storing
    def test_what_is_no_list(self, cache: Cache, store: Any) -> None:
        for tags in (None, 5):
            with pytest.raises(TypeError, match="not iterable"):
                store(cache, tags=tags)

    def test_an_iterator_that_fails(self, cache: Cache) -> None:
        def tags() -> Any:
            yield "a"
            raise LookupError("the caller's own")

        cache.set("key", b"old")
        for store in STORING.values():
            with pytest.raises(LookupError, match="the caller's own"):
                store(cache, tags=tags())
        assert cache.get_many(["key", "fresh"]) == [b"old", None]

    def test_invalidate_says_what_is_wrong_and_does_nothing(self, cache: Cache) -> None:
        cache.set("key", b"old", tags=["a"])
        for tags, complaint in {
            ("a", ""): 'non-empty parts joined by ":"',
            ("a", "a::b"): 'non-empty parts joined by ":"',
            ("a", None): "a tag is a str, not NoneType",
            (("a",),): "a tag is a str, not tuple",
        }.items():
            with pytest.raises(TagError, match=complaint):
                cache.invalidate(*tags)
        assert cache.invalidate() is None
        assert cache.get("key") == b"old"
        assert events(cache) == []


def paths(tag: str) -> list[str]:
    parts = tag.split(":")
    return [":".join(parts[: n + 1]) for n in range(len(parts))]


class TestCalling:
    """Key and value by position, all else by name."""

    @pytest.mark.parametrize(
        ("call", "complaint"),
        [
            (lambda c: c.set(), "0 positional arguments were given, not 2"),
            (lambda c: c.set("key"), "1 positional arguments were given, not 2"),
            (lambda c: c.set("key", b"v", 5), "3 positional arguments were given, not 2"),
            (lambda c: c.set(key="key", value=b"v"), "0 positional arguments were given, not 2"),
            (lambda c: c.set("key", b"v", timeout=5), "'timeout': ttl, tags or deps"),
            (lambda c: c.add("key"), "1 positional arguments were given, not 2"),
            (lambda c: c.replace("key"), "1 positional arguments were given, not 2"),
            (lambda c: c.fill("key", b"v"), "2 positional arguments were given, not 3"),
            (lambda c: c.set_many(), r"set_many\(\) takes a dict"),
            (lambda c: c.set_many({}, {}), r"set_many\(\) takes a dict"),
            (lambda c: c.set_many(5), r"set_many\(\) takes a dict"),
            (lambda c: c.set_many({"key": b"v"}, timeout=5), "'timeout': ttl, tags or deps"),
            (lambda c: c.get(), "exactly one argument"),
            (lambda c: c.get("key", None), "exactly one argument"),
            (lambda c: c.get(key="key"), "no keyword arguments"),
            (lambda c: c.get_many("a", "b"), "exactly one argument"),
            (lambda c: c.get_many(5), "not iterable"),
            (lambda c: c.invalidate(tags=["a"]), "no keyword arguments"),
            (lambda c: c.get_with_deps(), "key"),
            (lambda c: c.get_with_deps("key", 5), "positional"),
            (lambda c: c.touch("key", 5), "positional"),
            (lambda c: c.incr(), "key"),
            (lambda c: c.incr("key", "1"), None),
            (lambda c: c.incr("key", 1.5), None),
            (lambda c: c.compare_and_set("key", b"v"), "value"),
            (lambda c: c.compare_and_set("key", "v", b"w"), None),
            (lambda c: c.compare_and_set("key", b"v", None), None),
        ],
    )
    def test_wrongly(self, cache: Cache, call: Any, complaint: str) -> None:
        cache.set("key", b"1")
        with pytest.raises(TypeError, match=complaint):
            call(cache)
        assert cache.get("key") == b"1"

    def test_names_of_options_need_not_be_interned(self, cache: Cache) -> None:
        options = {"".join(["tt", "l"]): 5, "".join(["tag", "s"]): ["a"]}
        cache.set("key", b"v", **options)
        cache.invalidate("a")
        assert cache.get("key") is None

    @pytest.mark.parametrize("value", ["text", None, 5, [b"v"], array.array("b", [1])], ids=kind)
    def test_values_are_bytes(self, cache: Cache, value: Any) -> None:
        cache.set("key", b"old")
        for store in (cache.set, cache.add, cache.replace, lambda k, v: cache.set_many({k: v}),
                      lambda k, v: cache.fill(k, v, cache.stamp())):  # fmt: skip
            with pytest.raises(TypeError, match=f"a value is bytes, not <class .*{kind(value)}'>"):
                store("key", value)
        assert cache.get("key") == b"old"

    @pytest.mark.parametrize("value", [bytearray(b"abc"), memoryview(b"a-b-c")[::2]], ids=kind)
    def test_or_what_can_be_copied_to_bytes(self, cache: Cache, value: Any) -> None:
        for store in (cache.set, cache.replace, lambda k, v: cache.set_many({k: v})):
            cache.set("key", b"old")
            store("key", value)
            assert cache.get("key") == b"abc"
