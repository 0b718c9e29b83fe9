from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.access.origins import (
    PREFLIGHT_HEADERS,
    OriginPolicy,
    client_address,
    effective_host,
    header,
    parse_networks,
    parse_origin,
)
from realtime.errors import UsageError
from realtime.settings import Settings

SAME_HOST = OriginPolicy()
DEVELOPMENT = OriginPolicy(development=True)
LISTED = OriginPolicy(["https://app.example", "http://localhost:3000", "https://[2001:DB8::1]:8443", "app://desktop"])


def scope(
    origin: str | None = None, host: str | None = "app.example", *, client: Any = ("192.0.2.7", 4711), **more: str
) -> dict[str, Any]:
    """An ASGI scope; ``x_forwarded_for`` becomes the header of that name."""
    scheme = more.pop("scheme", "http")
    headers = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in more.items()]
    if origin is not None:
        headers.append((b"origin", origin.encode("latin-1")))
    if host is not None:
        headers.append((b"host", host.encode("latin-1")))
    return {"type": "websocket", "scheme": scheme, "headers": headers, "client": client}


# ── reading origins ──────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("https://app.example", ("https", "app.example", None)),
        ("HTTPS://App.Example:443", ("https", "app.example", None)),
        ("http://app.example:80", ("http", "app.example", None)),
        ("http://app.example:0080", ("http", "app.example", None)),
        ("http://app.example:443", ("http", "app.example", 443)),
        ("http://app.example.", ("http", "app.example.", None)),
        ("http://[0:0:0:0:0:0:0:1]:8000", ("http", "[::1]", 8000)),
        ("http://xn--bcher-kva.example", ("http", "xn--bcher-kva.example", None)),
        ("chrome-extension://abcdefgh", ("chrome-extension", "abcdefgh", None)),
        ("http://my_host:65535", ("http", "my_host", 65535)),
    ],
)
def test_equal_places_are_read_alike(text: str, place: tuple[str, str, int | None]) -> None:
    assert parse_origin(text) == place


NO_ORIGINS = [
    *("", "null", "app.example", "//app.example", "http:app.example", "http:/app.example", "http://", "://a"),
    *("http://app.example/", "http://app.example/path", "http://app.example?q", "http://app.example#f"),
    *("http://user@app.example", "http://app.example@evil.example", "http://a:b@app.example", "http://app.example\\@a"),
    *("http://app.example:", "http://app.example:x", "http://app.example:65536", "http://app.example:999999"),
    *("http://app.example:٨٠", "http://app.example:-1", "http://app.example:80:80"),
    *(
        "http://[::1",
        "http://::1",
        "http://[]",
        "http://[::1]x",
        "http://[1.2.3.4]",
        "http://[::g]",
        "http://[fe80::1%a]",
    ),
    *(" http://app.example", "http://app.example ", "http://app.example\n", "http://app.example\x0b", "http://a\x85"),
    *("http://app.example\x0c", "http://app.example\r\nx: y", "http://app\0.example", "http://app.example, http://b"),
    *(
        "http://app.example http://b",
        "http://*.example",
        "http://bücher.example",
        "http://a%2eb",
        "1http://a",
        "http://ſ",
    ),
    "http://app.example/" + "x" * 100_000,
]


@pytest.mark.parametrize("text", NO_ORIGINS, ids=lambda text: ascii(text)[:40])
def test_what_is_no_origin_is_not_read_as_one(text: str) -> None:
    assert parse_origin(text) is None
    assert not DEVELOPMENT.allows(text, "app.example", "http")
    assert DEVELOPMENT.cors_headers(text) == [(b"vary", b"Origin")]
    assert not LISTED.allows(text, "app.example", "http")


# ── who may connect ──────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("policy", [SAME_HOST, DEVELOPMENT, LISTED, OriginPolicy("*")])
def test_a_missing_origin_is_accepted(policy: OriginPolicy) -> None:
    assert policy.allows(None, None, "http")
    assert policy.allows_scope(scope(None))
    assert policy.allows_scope({"type": "http", "headers": []})


@pytest.mark.parametrize(
    ("origin", "host", "scheme", "allowed"),
    [
        ("https://app.example", "app.example", "https", True),
        ("https://app.example", "app.example", "wss", True),
        ("http://app.example", "app.example", "ws", True),
        ("HTTP://APP.EXAMPLE", "app.example", "http", True),
        ("http://app.example", "App.Example", "HTTP", True),
        ("http://app.example", "app.example:80", "http", True),
        ("https://app.example:443", "app.example", "wss", True),
        ("http://app.example:8000", "app.example:8000", "http", True),
        ("http://[::1]:8000", "[0::1]:8000", "http", True),
        ("http://app.example.", "app.example.", "http", True),
        ("http://app.example.", "app.example", "http", False),
        ("http://app.example", "app.example.", "http", False),
        ("http://app.example", "app.example", "https", False),
        ("https://app.example", "app.example", "http", False),
        ("http://app.example:8000", "app.example", "http", False),
        ("http://app.example", "app.example:8000", "http", False),
        ("http://app.example:443", "app.example", "https", False),
        ("http://evil.example", "app.example", "http", False),
        ("http://app.example.evil.example", "app.example", "http", False),
        ("http://evilapp.example", "app.example", "http", False),
        ("http://sub.app.example", "app.example", "http", False),
        ("http://app.example@evil.example", "app.example", "http", False),
        ("http://app.example@evil.example", "app.example@evil.example", "http", False),
        ("http://app.example/", "app.example/", "http", False),
        ("http://app.example", "", "http", False),
        ("http://app.example", None, "http", False),
        ("http://app.example", "app.example, app.example", "http", False),
        ("gopher://app.example", "app.example", "gopher", False),
        ("http://app.example", "app.example", "", False),
        ("null", "null", "http", False),
        ("null", "app.example", "http", False),
        ("", "app.example", "http", False),
        ("http://localhost:3000", "app.example", "http", False),
        ("http://127.0.0.1", "app.example", "http", False),
    ],
)
def test_by_default_the_host_must_be_the_same(origin: str, host: str | None, scheme: str, allowed: bool) -> None:
    assert SAME_HOST.allows(origin, host, scheme) is allowed
    assert SAME_HOST.allows_scope(scope(origin, host, scheme=scheme)) is allowed
    assert SAME_HOST.cors_headers(origin) == [(b"vary", b"Origin")]


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://localhost", True),
        ("http://localhost:3000", True),
        ("https://LOCALHOST:5173", True),
        ("http://127.0.0.1:8000", True),
        ("http://127.255.0.9:1", True),
        ("http://[::1]:8000", True),
        ("http://[0:0:0:0:0:0:0:1]", True),
        ("http://app.example", True),
        ("http://localhost.evil.example", False),
        ("http://localhost.evil.example:3000", False),
        ("http://localhost.", False),
        ("http://localhost@evil.example", False),
        ("http://evil-localhost", False),
        ("http://notlocalhost:3000", False),
        ("http://127.0.0.1.evil.example", False),
        ("http://127.evil.example", False),
        ("http://127.1", False),
        ("http://0x7f000001", False),
        ("http://2130706433", False),
        ("http://128.0.0.1", False),
        ("http://0.0.0.0:3000", False),
        ("http://192.168.0.5:3000", False),
        ("http://[::2]", False),
        ("http://[::ffff:192.0.2.1]", False),
        ("ftp://localhost", False),
        ("app://localhost", False),
        ("http://evil.example", False),
        ("null", False),
    ],
)
def test_in_development_pages_from_loopback_are_allowed_on_any_port(origin: str, allowed: bool) -> None:
    assert DEVELOPMENT.allows(origin, "app.example", "http") is allowed
    assert DEVELOPMENT.allows_scope(scope(origin)) is allowed


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://app.example", True),
        ("https://App.Example:443", True),
        ("http://localhost:3000", True),
        ("https://[2001:db8:0::1]:8443", True),
        ("app://desktop", True),
        ("http://app.example", False),
        ("https://app.example:8443", False),
        ("https://app.example.evil.example", False),
        ("https://sub.app.example", False),
        ("http://localhost:3001", False),
        ("https://other.example", False),
        ("null", False),
    ],
)
def test_a_list_is_the_whole_list(origin: str, allowed: bool) -> None:
    assert LISTED.allows(origin, "other.example", "https") is allowed
    assert LISTED.allows(origin, None, "https") is allowed
    assert LISTED.allows_scope(scope(origin, "other.example", scheme="wss")) is allowed
    assert (len(LISTED.cors_headers(origin)) > 1) is allowed


def test_a_list_in_development_has_loopback_beside_it() -> None:
    policy = OriginPolicy(["https://app.example"], development=True)
    assert policy.allows("http://localhost:5173", "app.example", "https")
    assert policy.allows("https://app.example", None, "https")
    assert not policy.allows("https://other.example", "other.example", "https")


def test_null_must_be_listed() -> None:
    policy = OriginPolicy(["null", "https://app.example"])
    assert policy.allows("null", "app.example", "http")
    assert not policy.allows("NULL", "app.example", "http")
    assert not policy.allows("https://other.example", "app.example", "http")
    assert policy.cors_headers("null")[0] == (b"access-control-allow-origin", b"null")


@pytest.mark.parametrize("allowed", ["*", ["*"], ["https://app.example", "*"]])
def test_a_star_is_every_page_of_the_world(allowed: Any) -> None:
    policy = OriginPolicy(allowed)
    for origin in ("http://evil.example", "null", "garbage\x85", ""):
        assert policy.allows(origin, None, "http")
    assert policy.cors_headers("http://evil.example")[0][1] == b"http://evil.example"
    assert policy.cors_headers("null")[0][1] == b"null"
    assert policy.cors_headers("a\r\nset-cookie: b") == [(b"vary", b"Origin")]


def test_one_origin_may_be_given_as_a_text() -> None:
    policy = OriginPolicy("https://app.example")
    assert policy.allows("https://app.example", None, "http")
    assert not policy.allows("https://other.example", "other.example", "https")


@pytest.mark.parametrize("text", ["", "app.example", "https://app.example/", "https://*.example", "http://a:b", "NULL"])
def test_a_list_entry_that_matches_nothing_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match=r"https://app\.example"):
        OriginPolicy(["https://fine.example", text])


def test_settings_become_a_policy() -> None:
    policy = OriginPolicy.from_settings(Settings(trusted_proxies=["10.0.0.0/8"]))
    assert policy.allows("http://localhost:3000", "app.example", "http")
    assert policy.client_address(scope(client=("10.1.2.3", 1), x_forwarded_for="192.0.2.1")) == "192.0.2.1"
    strict = OriginPolicy.from_settings(Settings(environment="production", allowed_origins=["https://app.example"]))
    assert strict.allows("https://app.example", None, "http")
    assert not strict.allows("http://localhost:3000", "localhost:3000", "http")


# ── proxies ──────────────────────────────────────────────────────────────────────────────────────
BEHIND = OriginPolicy(trusted_proxies=["10.0.0.0/8", "2001:db8::/32", "127.0.0.1"])
PROXY = ("10.0.0.1", 5000)


def test_a_foreign_origin_that_x_forwarded_host_repeats_stays_foreign() -> None:
    forged = {"x_forwarded_host": "evil.example", "x_forwarded_proto": "http"}
    for policy in (SAME_HOST, DEVELOPMENT, BEHIND):
        assert not policy.allows_scope(scope("http://evil.example", **forged))
        assert policy.allows_scope(scope("http://app.example", **forged))


def test_a_trusted_proxy_says_which_host_the_browser_meant() -> None:
    told = {"x_forwarded_host": "app.example", "x_forwarded_proto": "https"}
    assert BEHIND.allows_scope(scope("https://app.example", "inner:8000", client=PROXY, **told))
    assert not BEHIND.allows_scope(scope("http://inner:8000", "inner:8000", client=PROXY, **told))
    assert BEHIND.allows_scope(scope("http://inner:8000", "inner:8000", client=PROXY))
    assert not BEHIND.allows_scope(scope("https://app.example", "inner:8000", client=None, **told))


def test_the_last_entry_is_the_proxys_own() -> None:
    told = {"x_forwarded_host": "evil.example, app.example", "x_forwarded_proto": "http , https"}
    assert effective_host(scope(client=PROXY, **told), BEHIND.trusted_proxies) == ("app.example", "https")
    assert not BEHIND.allows_scope(scope("https://evil.example", client=PROXY, **told))
    empty = {"x_forwarded_host": "", "x_forwarded_proto": " "}
    assert effective_host(scope(client=PROXY, **empty), BEHIND.trusted_proxies) == ("app.example", "http")


def test_without_a_host_header_there_is_no_host() -> None:
    assert effective_host({"headers": []}) == (None, "http")


def test_repeated_headers_are_no_way_around() -> None:
    twice = scope("http://app.example")
    twice["headers"] += [(b"Origin", b"http://evil.example")]
    assert header(twice, b"origin") == "http://app.example, http://evil.example"
    assert not DEVELOPMENT.allows_scope(twice)
    two_hosts = scope("http://evil.example")
    two_hosts["headers"] += [(b"host", b"evil.example")]
    assert not DEVELOPMENT.allows_scope(two_hosts)


@pytest.mark.parametrize(
    ("client", "forwarded", "address"),
    [
        (("192.0.2.7", 1), None, "192.0.2.7"),
        (("192.0.2.7", 1), "203.0.113.9", "192.0.2.7"),
        (PROXY, None, "10.0.0.1"),
        (PROXY, "203.0.113.9", "203.0.113.9"),
        (PROXY, "1.1.1.1, 203.0.113.9", "203.0.113.9"),
        (PROXY, "1.1.1.1, 203.0.113.9 ,10.0.0.2,\t10.0.0.3", "203.0.113.9"),
        (PROXY, "10.0.0.2, 10.0.0.3", "10.0.0.2"),
        (PROXY, "203.0.113.9, unknown", "10.0.0.1"),
        (PROXY, "203.0.113.9, , 10.0.0.2", "10.0.0.2"),
        (PROXY, "203.0.113.9, _hidden, 10.0.0.2", "10.0.0.2"),
        (PROXY, "203.0.113.9:4711", "203.0.113.9"),
        (PROXY, "[2001:db9::5]:4711", "2001:db9::5"),
        (PROXY, "[2001:db9::5]", "2001:db9::5"),
        (PROXY, "2001:DB9:0::5", "2001:db9::5"),
        (PROXY, "2001:db8::5", "2001:db8::5"),
        (PROXY, "fe80::1%<script>", "10.0.0.1"),
        (PROXY, "::ffff:203.0.113.9", "203.0.113.9"),
        (PROXY, "203.0.113.9\x0b", "10.0.0.1"),
        (PROXY, "[", "10.0.0.1"),
        (("::ffff:10.0.0.1", 1), "203.0.113.9", "203.0.113.9"),
        (("2001:db8::1", 1, 0, 0), "203.0.113.9", "203.0.113.9"),
        (("127.0.0.1", 1), "203.0.113.9", "203.0.113.9"),
        (("127.0.0.2", 1), "203.0.113.9", "127.0.0.2"),
        (("testclient", 50000), "203.0.113.9", "testclient"),
        (["10.0.0.1", 1], "203.0.113.9", "203.0.113.9"),
        (None, "203.0.113.9", ""),
        (("", 0), "203.0.113.9", ""),
    ],
)
def test_whose_address_it_is(client: Any, forwarded: str | None, address: str) -> None:
    told = {} if forwarded is None else {"x_forwarded_for": forwarded}
    assert client_address(scope(client=client, **told), BEHIND.trusted_proxies) == address
    assert BEHIND.client_address(scope(client=client, **told)) == address


def test_nobody_is_trusted_by_default() -> None:
    assert client_address(scope(client=("127.0.0.1", 1), x_forwarded_for="203.0.113.9")) == "127.0.0.1"


@pytest.mark.parametrize(
    ("address", "exempt"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.200.0.1", True),
        ("2001:db8::9", True),
        ("192.0.2.1", False),
        ("::2", False),
        ("testclient", False),
        ("", False),
    ],
)
def test_loopback_and_trusted_proxies_are_exempt(address: str, exempt: bool) -> None:
    assert BEHIND.is_exempt(address) is exempt


@pytest.mark.parametrize("text", ["", "nginx", "10.0.0.1/8", "10.0.0.0/33", "::/129", "10.0.0.0/8,127.0.0.1"])
def test_a_proxy_that_is_no_network_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match=r"10\.0\.0\.0/8"):
        parse_networks([text])


# ── answers to polling ───────────────────────────────────────────────────────────────────────────
def test_an_allowed_page_of_another_origin_gets_its_origin_back() -> None:
    assert LISTED.cors_headers("https://app.example") == [
        (b"access-control-allow-origin", b"https://app.example"),
        (b"vary", b"Origin"),
        (b"access-control-allow-credentials", b"true"),
    ]
    assert DEVELOPMENT.cors_headers("http://localhost:5173")[0][1] == b"http://localhost:5173"
    assert LISTED.cors_headers(None) == [(b"vary", b"Origin")]


def test_credentials_can_be_switched_off() -> None:
    found = OriginPolicy("*", credentials=False).cors_headers("https://app.example")
    assert found == [(b"access-control-allow-origin", b"https://app.example"), (b"vary", b"Origin")]


def test_a_preflight_is_answered() -> None:
    assert LISTED.preflight_headers("https://app.example", "content-type, X-Request-Id") == [
        *LISTED.cors_headers("https://app.example"),
        (b"access-control-allow-methods", b"GET, POST, PUT, OPTIONS"),
        (b"access-control-max-age", b"600"),
        (b"vary", b"Access-Control-Request-Headers"),
        (b"access-control-allow-headers", b"content-type, X-Request-Id"),
    ]
    for origin in ("https://evil.example", "null", None):
        assert LISTED.preflight_headers(origin, "content-type") == [(b"vary", b"Origin")]


@pytest.mark.parametrize(
    ("asked", "echoed"),
    [
        (None, None),
        ("", None),
        (" , ,", None),
        ("a\r\nset-cookie: b=c", None),
        ("a, b\r\nx: y, c", b"a, c"),
        ("a b, ü, (c), d\x0b, e\x85, f", b"f"),
        (",".join(["x"] * 10_000), b", ".join([b"x"] * PREFLIGHT_HEADERS)),
    ],
)
def test_only_names_of_headers_are_echoed(asked: str | None, echoed: bytes | None) -> None:
    found = dict(LISTED.preflight_headers("https://app.example", asked))
    assert found.get(b"access-control-allow-headers") == echoed


# ── whatever arrives ─────────────────────────────────────────────────────────────────────────────
header_names = st.sampled_from(
    [b"origin", b"host", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-for", b"Origin"]
) | st.binary(max_size=8)
header_values = (
    st.binary(max_size=30)
    | st.sampled_from([b"http://app.example", b"app.example", b"null", b"127.0.0.1", b"https", b"http://[::1]:1"])
    | st.tuples(st.sampled_from([b"http://", b"http://[", b"https://localhost"]), st.binary(max_size=12)).map(b"".join)
)
POLICIES = [
    SAME_HOST,
    DEVELOPMENT,
    LISTED,
    BEHIND,
    OriginPolicy("*"),
    OriginPolicy(["null"], development=True, trusted_proxies=["0.0.0.0/0", "::/0"]),
]


@given(
    st.lists(st.tuples(header_names, header_values), max_size=6),
    st.sampled_from(["http", "https", "ws", "wss", ""]),
    st.sampled_from([PROXY, ("192.0.2.7", 1), ("::1", 1, 0, 0), None, ("", 0)]),
    st.sampled_from(POLICIES),
)
def test_nothing_raises_and_nothing_unreadable_is_echoed(
    headers: list[tuple[bytes, bytes]], scheme: str, client: Any, policy: OriginPolicy
) -> None:
    arrived = {"type": "http", "headers": headers, "scheme": scheme, "client": client}
    origin, asked = header(arrived, b"origin"), header(arrived, b"x-forwarded-for")
    allowed = policy.allows_scope(arrived)
    assert allowed or origin is not None
    policy.client_address(arrived)
    for name, value in policy.preflight_headers(origin, asked):
        assert value.isascii()
        assert value.decode().isprintable()
        assert name != b"access-control-allow-origin" or allowed


@given(st.text(max_size=30), st.none() | st.text(max_size=20), st.text(max_size=6), st.sampled_from(POLICIES[:4]))
def test_any_text_is_allowed_or_not(origin: str, host: str | None, scheme: str, policy: OriginPolicy) -> None:
    if policy.allows(origin, host, scheme):
        assert parse_origin(origin) is not None


@given(st.from_regex(r"(?i)https?://[a-z0-9.-]{1,20}(:[0-9]{1,4})?", fullmatch=True).filter(str.isascii))
def test_an_origin_equals_itself_in_any_case(origin: str) -> None:
    policy = OriginPolicy([origin])
    assert policy.allows(origin.upper(), None, "http")
    assert policy.allows(origin.lower(), None, "http")
    assert not policy.allows(origin + ".evil.example", None, "http")
    scheme, _, host = origin.lower().partition("://")
    assert SAME_HOST.allows(origin, host, scheme)
