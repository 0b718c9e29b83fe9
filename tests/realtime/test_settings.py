from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from realtime.settings import BUILT_IN_SECRET, Settings

GOOD_SECRET = "k" * 32


@pytest.fixture(autouse=True)
def _no_settings_of_whoever_runs_this(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"REALTIME_{name.upper()}", raising=False)


def production(**changes: object) -> Settings:
    safe: dict[str, object] = {
        "environment": "production",
        "jwt_secret": GOOD_SECRET,
        "allowed_origins": ["https://chat.example"],
    }
    return Settings(**(safe | changes))  # type: ignore[arg-type]


def test_the_defaults_are_those_of_the_contract() -> None:
    found = Settings()
    assert not found.production
    assert found.database_url == "sqlite+aiosqlite:///realtime.db"
    assert (found.message_limit_bytes, found.attachment_limit, found.json_depth_limit) == (1_000_000, 10, 64)
    assert (found.rooms_per_connection, found.namespaces_per_connection, found.events_per_second) == (100, 100, 100)
    assert (found.backlog_limit_bytes, found.backlog_limit_messages, found.inbox_limit_events) == (1 << 20, 1_000, 256)
    assert (found.connect_timeout_seconds, found.upgrade_timeout_seconds) == (10, 10)
    assert (found.ping_interval_seconds, found.ping_timeout_seconds, found.heartbeat_interval_seconds) == (25, 20, 30)
    assert (found.user_rate_limit_messages, found.user_rate_limit_seconds) == (10, 60)
    assert found.handshakes_per_minute_per_address is None
    assert found.connections_per_user is None


def test_the_environment_is_read_with_its_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REALTIME_ENVIRONMENT", "production")
    monkeypatch.setenv("REALTIME_INBOX_LIMIT_EVENTS", "7")
    monkeypatch.setenv("INBOX_LIMIT_EVENTS", "8")
    monkeypatch.setenv("REALTIME_ALLOWED_ORIGINS", " https://a.example ,https://b.example,, ")
    monkeypatch.setenv("REALTIME_NOBODY_KNOWS_THIS", "x")
    found = Settings()
    assert found.production
    assert found.inbox_limit_events == 7
    assert found.allowed_origins == ["https://a.example", "https://b.example"]


@given(st.lists(st.text(st.characters(exclude_characters=",", exclude_categories=["Z", "C"]), min_size=1)))
def test_a_list_comes_back_out_of_its_commas(parts: list[str]) -> None:
    assert Settings(trusted_proxies=", ".join(parts)).trusted_proxies == parts


def test_a_list_may_be_a_list() -> None:
    assert Settings(trusted_proxies=["10.0.0.0/8"]).trusted_proxies == ["10.0.0.0/8"]


@pytest.mark.parametrize(
    "changes",
    [
        {"environment": "staging"},
        {"jwt_algorithm": "none"},
        {"node": "a b"},
        {"node": ""},
        {"node": "n" * 33},
        {"message_limit_bytes": 999},
        {"inbox_limit_events": 0},
        {"events_per_second": 0},
        {"ping_interval_seconds": 0},
        {"jwt_leeway_seconds": 301},
        {"history_on_join": 201},
        {"connections_per_user": 0},
        {"backlog_limit_messages": "many"},
    ],
    ids=str,
)
def test_a_value_that_makes_no_sense_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings(**changes)  # type: ignore[arg-type]


def test_settings_do_not_change_under_way() -> None:
    with pytest.raises(ValidationError):
        Settings().environment = "production"  # type: ignore[misc]


def test_secrets_are_not_shown() -> None:
    shown = repr(Settings(jwt_secret=SecretStr("hunter2-hunter2"), jwt_private_key=SecretStr("hunter3-hunter3")))
    assert "hunter" not in shown


def test_development_is_never_unsafe() -> None:
    assert Settings().problems() == []


def test_production_with_everything_it_needs_starts() -> None:
    assert production().problems() == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"jwt_secret": BUILT_IN_SECRET}, "REALTIME_JWT_SECRET is the built-in one"),
        ({"jwt_secret": "k" * 31}, "REALTIME_JWT_SECRET has 31 bytes: HS256 needs at least 32"),
        ({"jwt_secret": "é" * 15}, "REALTIME_JWT_SECRET has 30 bytes"),
        ({"jwt_algorithm": "RS256"}, "REALTIME_JWT_ALGORITHM is RS256 but REALTIME_JWT_PUBLIC_KEY is not set"),
        ({"jwt_algorithm": "ES256", "jwt_public_key": ""}, "REALTIME_JWT_PUBLIC_KEY is not set"),
        ({"allowed_origins": []}, "REALTIME_ALLOWED_ORIGINS is empty"),
        ({"allowed_origins": ["https://a.example", "*"]}, "REALTIME_ALLOWED_ORIGINS contains *"),
    ],
    ids=str,
)
def test_production_says_what_is_unsafe_and_never_the_secret(changes: dict[str, object], words: str) -> None:
    [problem] = production(**changes).problems()
    assert words in problem
    assert str(changes.get("jwt_secret", "unknown")) not in problem


SHARED = "redis://localhost:6379/0"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (None, "REALTIME_BUS_KEYS is not set"),
        (" , ", "REALTIME_BUS_KEYS is not set"),
        (f"{GOOD_SECRET},{'q' * 31}", "REALTIME_BUS_KEYS: key 2 has 31 bytes, at least 32 are needed"),
        (f"{BUILT_IN_SECRET},{GOOD_SECRET}", "REALTIME_BUS_KEYS: key 1 is the built-in secret"),
    ],
)
def test_production_on_a_redis_needs_keys_of_its_own(keys: str | None, words: str) -> None:
    [problem] = production(redis_url=SHARED, bus_keys=keys).problems()
    assert problem.startswith(words)
    assert not any(key.strip() in problem for key in (keys or "").split(",") if key.strip())
    assert production(bus_keys=keys).problems() == [], "alone, nobody is signed for"
    assert Settings(redis_url=SHARED, bus_keys=keys).problems() == []


def test_production_on_a_redis_with_good_keys_starts() -> None:
    found = production(redis_url=SHARED, bus_keys=f"{'n' * 32}, {'o' * 32},")
    assert found.problems() == []
    assert found.signing_keys == ["n" * 32, "o" * 32], "the first signs"


def test_production_says_everything_at_once() -> None:
    assert len(production(jwt_secret=BUILT_IN_SECRET, allowed_origins=[]).problems()) == 2


def test_a_public_key_needs_no_secret() -> None:
    found = production(jwt_algorithm="RS256", jwt_public_key="-----BEGIN PUBLIC KEY-----", jwt_secret=BUILT_IN_SECRET)
    assert found.problems() == []
