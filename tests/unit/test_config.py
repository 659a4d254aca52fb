"""Settings: who wins, what is refused, and that the error says where the value came from."""

from __future__ import annotations

import dataclasses
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoocache import config
from zoocache.config import Settings, parse_size, resolve
from zoocache.exceptions import ConfigError

MIB = 1 << 20
DJANGO = "ZOOCACHE['{key}'] in Django settings"


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    """Start each test with defaults only, and give back whatever was registered before."""
    for key in config.KEYS:
        monkeypatch.delenv(f"ZOOCACHE_{key}", raising=False)
    monkeypatch.setattr(config, "_sources", [])
    monkeypatch.setattr(config, "_overrides", {})


def register(values: object, label: str = DJANGO, **options) -> None:
    config.register_source(lambda: values, label=label, **options)


def test_defaults() -> None:
    assert resolve() == Settings(name="default", size=64 * MIB, ttl=None, enabled=True)
    with pytest.raises(dataclasses.FrozenInstanceError):
        resolve().name = "x"


def test_the_stronger_source_wins_key_by_key(monkeypatch) -> None:
    for key, text in {"NAME": "env", "SIZE": "2MiB", "TTL": "10", "ENABLED": "off"}.items():
        monkeypatch.setenv(f"ZOOCACHE_{key}", text)
    assert resolve() == Settings("env", 2 * MIB, 10.0, False)
    register({"NAME": "django", "SIZE": "3MiB", "TTL": 20})
    assert resolve() == Settings("django", 3 * MIB, 20.0, False)
    register({"NAME": "later"}, label="other {key}")
    assert resolve() == Settings("later", 3 * MIB, 20.0, False)
    config.set_overrides(name="given")
    assert resolve() == Settings("given", 3 * MIB, 20.0, False)


def test_overrides_add_up_and_can_be_cleared() -> None:
    config.set_overrides(size="2MiB")
    config.set_overrides(name="n", enabled=False)
    assert resolve() == Settings("n", 2 * MIB, None, False)
    config.clear_overrides()
    assert resolve() == Settings()


def test_no_ttl_is_a_value_of_its_own(monkeypatch) -> None:
    monkeypatch.setenv("ZOOCACHE_TTL", "10")
    config.set_overrides(name="x")
    assert resolve().ttl == 10
    config.set_overrides(ttl=None)
    assert resolve().ttl is None
    config.clear_overrides()
    register({"TTL": None})
    assert resolve().ttl is None


def test_an_override_that_is_refused_changes_nothing() -> None:
    before = config.generation()
    with pytest.raises(ConfigError, match=re.escape("configure(size=...)")):
        config.set_overrides(name="x", size="lots")
    assert resolve() == Settings()
    assert config.generation() == before


def test_the_generation_grows_with_every_change() -> None:
    seen = [config.generation()]
    for change in (
        lambda: config.set_overrides(name="x"),
        config.clear_overrides,
        lambda: register({}),
        lambda: config.unregister_source(DJANGO),
        config.changed,
    ):
        change()
        seen.append(config.generation())
    assert seen == sorted(set(seen))
    resolve()
    assert config.generation() == seen[-1]


def test_a_source_is_read_anew_and_replaced_by_its_label() -> None:
    values = {"NAME": "one"}
    register(values)
    assert resolve().name == "one"
    values["NAME"] = "two"
    assert resolve().name == "two"
    register({"SIZE": 5 * MIB})
    assert resolve() == Settings(size=5 * MIB)
    config.unregister_source(DJANGO)
    assert resolve() == Settings()


@pytest.mark.parametrize(
    ("key", "hint"),
    [("TLL", "did you mean TTL?"), ("size", "did you mean SIZE?"), ("@", "valid keys are EN")],
)
def test_an_unknown_key_names_the_nearest(key: str, hint: str) -> None:
    register({key: 1})
    with pytest.raises(ConfigError, match=re.escape(hint)) as caught:
        resolve()
    assert f"ZOOCACHE['{key}'] in Django settings" in str(caught.value)


def test_a_source_may_own_further_keys() -> None:
    register({"MODELS": ["shop"], "NAME": "n"}, extra_keys=["MODELS"])
    assert resolve() == Settings(name="n")
    register({"MODLES": []}, extra_keys=["MODELS"])
    with pytest.raises(ConfigError, match="did you mean MODELS"):
        resolve()


BAD = {
    "NAME": ["", ".hidden", "a/b", "a b", "x" * 65, "é", "a\n", 5, None],
    "SIZE": ["lots", "", "64", "1023KiB", "-5MiB", "64 M", "1e9", "٦٤MiB", 5, 0, True, 1e9, None],
    "ENTRY_SIZE": ["much", "", 63, "2MiB", -1, "1e3", True, 1e3, None],
    "TTL": [0, -1, float("nan"), float("inf"), True, "10", 10**400, 10**5000, [], -0.0],
    "ENABLED": ["maybe", 1, 0, None, "true"],
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, bad) for key in BAD for bad in BAD[key]], ids=lambda value: ""
)
def test_bad_values_say_where_they_came_from(key: str, value: object) -> None:
    register({key: value})
    with pytest.raises(ConfigError) as caught:
        resolve()
    message = str(caught.value)
    assert message.startswith(f"ZOOCACHE['{key}'] in Django settings: {key.lower()} must be")
    assert len(message) < 300
    if not (value is None and key != "TTL"):
        with pytest.raises(ConfigError, match=re.escape(f"configure({key.lower()}=...)")):
            config.set_overrides(**{key.lower(): value})


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("NAME", "a/b"),
        ("SIZE", "lots"),
        ("ENTRY_SIZE", "63"),
        ("TTL", "nan"),
        ("TTL", "soon"),
        ("ENABLED", "maybe"),
    ],
)
def test_bad_environment_variables_are_named(monkeypatch, key: str, text: str) -> None:
    monkeypatch.setenv(f"ZOOCACHE_{key}", text)
    with pytest.raises(ConfigError, match=f"^ZOOCACHE_{key} environment variable: "):
        resolve()


def test_a_bad_value_that_does_not_win_is_not_complained_about(monkeypatch) -> None:
    monkeypatch.setenv("ZOOCACHE_SIZE", "lots")
    config.set_overrides(size="2MiB")
    assert resolve().size == 2 * MIB


@pytest.mark.parametrize(
    ("text", "enabled"),
    [(text, True) for text in ("1", "true", "YES", "On")]
    + [(text, False) for text in ("0", "False", "no", "OFF")],
)
def test_words_for_enabled(monkeypatch, text: str, enabled: bool) -> None:
    monkeypatch.setenv("ZOOCACHE_ENABLED", text)
    assert resolve().enabled is enabled


def test_an_empty_environment_variable_is_not_set(monkeypatch) -> None:
    for key in config.KEYS:
        monkeypatch.setenv(f"ZOOCACHE_{key}", " ")
    assert resolve() == Settings()
    monkeypatch.setenv("ZOOCACHE_TTL", "None")
    assert resolve().ttl is None


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("64MiB", 64 * MIB),
        ("64MB", 64_000_000),
        ("1.5GiB", 3 << 29),
        (MIB, MIB),
        ("1048576", MIB),
        (" 2 mib ", 2 * MIB),
        ("1048576B", MIB),
        ("1TiB", 1 << 40),
        ("2048KiB", 2 * MIB),
        ("1.1MiB", 1_153_433),
    ],
)
def test_sizes(value: object, size: int) -> None:
    assert parse_size(value) == size


@given(st.integers(MIB, 10**17))
def test_a_size_in_bytes_means_itself(size: int) -> None:
    assert parse_size(size) == parse_size(str(size)) == parse_size(f"{size}B") == size


@given(st.text(max_size=30))
def test_any_text_is_a_size_or_refused(text: str) -> None:
    try:
        size = parse_size(text)
    except ConfigError:
        return
    assert size >= MIB


def test_the_message_names_the_fix() -> None:
    with pytest.raises(ConfigError, match=r"size must be like 64MiB.*got 'lots'"):
        parse_size("lots")
    with pytest.raises(ConfigError, match="at least 1MiB"):
        parse_size("1KiB")


def test_names() -> None:
    for name in ("a", "A-z_0.9", "_x", "-", "x" * 64):
        config.set_overrides(name=name)
        assert resolve().name == name


def test_the_environment_is_read_at_each_call() -> None:
    os.environ["ZOOCACHE_NAME"] = "now"
    try:
        assert resolve().name == "now"
    finally:
        del os.environ["ZOOCACHE_NAME"]
