from __future__ import annotations

import base64
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import HTTPConnection

from namespaces.credentials import Credentials, Doorman, by_name
from realtime import AccessError, Identity, PayloadError, RealtimeError, Tokens
from tests.namespaces.names import BAD_USERS, FINE_NAMES

TOKENS = Tokens(secret="a secret that is long enough for anybody", leeway_seconds=0)
DOORMAN = Doorman(TOKENS)


def token(user: str = "alice", expires_in: float | None = 60) -> str:
    return TOKENS.issue(user, time.time(), expires_in)


def connection(query: str = "", subprotocols: tuple[str, ...] = (), **headers: str) -> HTTPConnection:
    found = [(name.encode(), value.encode()) for name, value in headers.items()]
    return HTTPConnection(
        {"type": "websocket", "headers": found, "query_string": query.encode(), "subprotocols": list(subprotocols)}
    )


def by_subprotocol(value: str) -> tuple[str, str]:
    return "realtime.v1", "bearer." + base64.urlsafe_b64encode(value.encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "shown",
    [
        lambda one: (connection(), one),
        lambda one: (connection(query=f"a=b&token={one}"), None),
        lambda one: (connection(authorization=f"Bearer {one}"), None),
        lambda one: (connection(subprotocols=by_subprotocol(one)), None),
        lambda one: (connection(query="token=nonsense"), one),  # that of CONNECT counts
    ],
    ids=["connect", "query", "header", "sub-protocol", "connect first"],
)
def test_a_token_is_found_wherever_it_may_be(shown: Any) -> None:
    where, given_with_connect = shown(token())
    identity = DOORMAN.by_token(where, given_with_connect)
    assert identity is not None
    assert (identity.user_id, identity.anonymous) == ("alice", False)
    assert DOORMAN.require(where, given_with_connect) == identity


def test_no_token_is_nobody_and_not_enough_where_one_is_required() -> None:
    assert DOORMAN.by_token(connection()) is None
    assert DOORMAN.by_token(connection(query="token=")) is None
    with pytest.raises(AccessError) as failure:
        DOORMAN.require(connection())
    assert failure.value.code == "token_required"


@pytest.mark.parametrize(
    ("shown", "code"),
    [
        ("nonsense", "invalid_token"),
        (TOKENS.issue("alice", time.time() - 100, 50), "expired_token"),
        (Tokens(secret="x" * 40).issue("alice", time.time()), "invalid_token"),
        (Tokens(secret="x" * 40, audience="others").issue("alice", time.time()), "invalid_token"),
    ],
)
def test_a_bad_token_is_refused_where_none_was_needed(shown: str, code: str) -> None:
    with pytest.raises(AccessError) as failure:
        DOORMAN.by_token(connection(), shown)
    assert failure.value.code == code
    assert shown not in str(failure.value)


@given(st.text(max_size=50))
def test_any_text_for_a_token_is_refused_with_one_error(shown: str) -> None:
    if shown:
        with pytest.raises(AccessError):
            DOORMAN.by_token(connection(), shown)


def test_a_renewed_token_belongs_to_the_same_user() -> None:
    identity = DOORMAN.require(connection(), token(expires_in=10))
    renewed = DOORMAN.renew(identity, token(expires_in=1000))
    assert renewed.expires_at is not None
    assert identity.expires_at is not None
    assert renewed.expires_at > identity.expires_at
    for other, code in ((token("bob"), "invalid_token"), ("nonsense", "invalid_token")):
        with pytest.raises(AccessError) as failure:
            DOORMAN.renew(identity, other)
        assert failure.value.code == code


@pytest.mark.parametrize("name", BAD_USERS.values(), ids=BAD_USERS.keys())
def test_a_name_that_nobody_may_have_is_refused(name: Any) -> None:
    with pytest.raises(PayloadError) as failure:
        by_name(name)
    assert failure.value.code == "invalid_username"


@pytest.mark.parametrize("name", [name for name in FINE_NAMES.values() if ":" not in name])
def test_a_name_that_only_looks_odd_is_taken(name: str) -> None:
    assert by_name(name) == Identity(name, anonymous=True)


def test_no_name_at_all_is_refused() -> None:
    with pytest.raises(AccessError) as failure:
        by_name(None)
    assert failure.value.code == "unauthorized"


@given(st.text(max_size=200))
def test_a_taken_name_can_stand_in_a_private_room(name: str) -> None:
    try:
        identity = by_name(name)
    except RealtimeError:
        return
    assert ":" not in identity.user_id
    assert identity.user_id.isprintable()
    assert 0 < len(identity.user_id) <= 128


def test_credentials_pass_over_what_they_do_not_know() -> None:
    assert Credentials.model_validate({"username": "a", "admin": True}) == Credentials(username="a")
