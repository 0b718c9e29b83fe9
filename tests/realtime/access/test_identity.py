from __future__ import annotations

import base64
import hashlib
import hmac
import json
import traceback
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import RSAAlgorithm
from pydantic import SecretStr

from realtime.access.identity import SUBPROTOCOL, TOKEN_LIMIT, Identity, Tokens, find_token, problem_with_user
from realtime.errors import AccessError, UsageError
from realtime.settings import Settings

NOW = 1_800_000_000.0
SECRET = "a secret of this test, of forty-two bytes."
tokens = Tokens(secret=SECRET)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(claims: object, secret: str | bytes = SECRET, /, **header: Any) -> str:
    """A token made by hand, so that it can be wrong in ways that a library would refuse to write."""
    return signed_text(claims if isinstance(claims, str) else json.dumps(claims), secret, **header)


def signed_text(claims: str, secret: str | bytes = SECRET, /, **header: Any) -> str:
    head = base64url(json.dumps({"alg": "HS256", "typ": "JWT", **header}).encode())
    body = f"{head}.{base64url(claims.encode())}"
    key = secret.encode() if isinstance(secret, str) else secret
    return f"{body}.{base64url(hmac.digest(key, body.encode(), hashlib.sha256))}"


def refused(call: Callable[[], object], *never: str) -> AccessError:
    """The AccessError of a call; nothing of what it was given is in it, nor in anything printed about it."""
    with pytest.raises(AccessError) as caught:
        call()
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    told = f"{error!r} {error.as_dict()} {''.join(traceback.format_exception_only(error))}"
    for secret in never:
        assert secret == "" or secret not in told
    assert error.message[0].isupper()
    return error


def outcome(token: str, by: Tokens = tokens) -> str:
    """The user of a token, or the code of its refusal."""
    try:
        return by.verify(token, NOW).user_id
    except AccessError as error:
        return error.code


def refused_token(token: object, now: float = NOW, by: Tokens = tokens) -> AccessError:
    parts = [part for part in str(token).split(".") if len(part) > 12]
    return refused(lambda: by.verify(token, now), SECRET, *parts)


class Keys(SimpleNamespace):
    private: str
    public: str
    public_der: bytes
    jwk: dict[str, Any]
    key: Any


def pem_keys(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> Keys:
    public = key.public_key()
    return Keys(
        key=key,
        private=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        public=public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
        public_der=public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        ssh=public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode(),
        jwk=RSAAlgorithm.to_jwk(public, as_dict=True) if isinstance(public, rsa.RSAPublicKey) else {},
    )


@pytest.fixture(scope="module")
def rsa_keys() -> Keys:
    return pem_keys(rsa.generate_private_key(65537, 2048))


@pytest.fixture(scope="module")
def ec_keys() -> Keys:
    return pem_keys(ec.generate_private_key(ec.SECP256R1()))


# ── identities and scopes ────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("granted", "asked", "allowed"),
    [
        ("notify:publish:orders", "notify:publish:orders", True),
        ("notify:publish:orders", "notify:publish:orders2", False),
        ("notify:publish:orders", "notify:publish", False),
        ("notify:publish:orders", "notify:publish:orders:eu", False),
        ("notify:publish:*", "notify:publish:orders", True),
        ("notify:publish:*", "notify:publish:orders:eu", True),
        ("notify:publish:*", "notify:publish:*", True),
        ("notify:publish:*", "notify:publish", False),
        ("notify:publish:*", "notify:publish:", False),
        ("notify:publish:*", "notify:publisher:orders", False),
        ("notify:publish:*", "room:join:lobby", False),
        ("notify:*", "notify:publish:orders", True),
        ("*", "anything:at:all", True),
        ("*", "anything", True),
        ("notify:*:orders", "notify:publish:orders", False),
        ("notify:*:orders", "notify:*:orders", True),
        ("notify:publish:or*", "notify:publish:orders", False),
        ("notify:publish*", "notify:publish:orders", False),
        ("*:publish:orders", "notify:publish:orders", False),
        ("**", "notify", False),
        ("notify:publish:orders", "notify:publish:*", False),
        ("notify:publish:orders", "*", False),
    ],
)
def test_what_a_scope_allows(granted: str, asked: str, allowed: bool) -> None:
    assert Identity("alice", frozenset({"other", granted})).allows(asked) is allowed


def test_nobody_without_scopes_is_allowed_anything() -> None:
    assert not Identity("alice").allows("notify:publish:orders")
    assert not Identity("alice").allows("")


@given(st.sets(st.text("ab:*", max_size=6)), st.text("ab:*", max_size=6))
def test_scopes_agree_with_the_rule_in_words(granted: set[str], asked: str) -> None:
    covered = any(
        scope in (asked, "*") or (scope.endswith(":*") and asked.startswith(scope[:-1]) and asked != scope[:-1])
        for scope in granted
    )
    assert Identity("alice", frozenset(granted)).allows(asked) is covered


def test_an_identity_can_be_compared_hashed_and_shown_without_its_claims() -> None:
    one = Identity("alice", claims={"email": "alice@example.com"})
    assert one == Identity("alice")
    assert len({one, Identity("alice"), Identity("alice", anonymous=True)}) == 2
    assert "example.com" not in repr(one)
    assert not Identity("bob").claims


@pytest.mark.parametrize("user", ["alice", "Ali ce", "ünï", "@alice", "user", "system", "a" * 128])
def test_a_user_can_be_called_so(user: str) -> None:
    assert problem_with_user(user) is None


@pytest.mark.parametrize(
    "user",
    ["", "a" * 129, "a:b", ":", "SYSTEM", "a\0b", "a\nb", "a\u200bb", "a\u202eb", " alice", "\ud800", 5, None, ["a"]],
)
def test_nobody_can_be_called_so(user: object) -> None:
    assert problem_with_user(user)
    refused_token(signed({"user_id": user}))
    with pytest.raises(UsageError):
        tokens.issue(user, NOW)  # type: ignore[arg-type]


# ── issuing and verifying ────────────────────────────────────────────────────────────────────────
def test_an_issued_token_is_verified() -> None:
    token = tokens.issue("alice", NOW, 60, ["room:join:*", "notify:publish:orders"])
    identity = tokens.verify(token, NOW)
    assert identity == Identity("alice", frozenset({"room:join:*", "notify:publish:orders"}), NOW + 60)
    assert identity.claims["iat"] == NOW
    assert not identity.anonymous


def test_a_token_may_be_issued_for_ever_and_without_scopes() -> None:
    assert tokens.verify(tokens.issue("alice", NOW + 0.9), NOW) == Identity("alice")


def test_audience_and_issuer_are_written_and_asked_for() -> None:
    strict = Tokens(secret=SECRET, audience="chat", issuer="https://issuer.example")
    claims = strict.verify(strict.issue("alice", NOW), NOW).claims
    assert (claims["aud"], claims["iss"]) == ("chat", "https://issuer.example")


def test_keys_of_both_kinds_sign_and_verify(rsa_keys: Keys, ec_keys: Keys) -> None:
    for algorithm, keys in (("RS256", rsa_keys), ("ES256", ec_keys)):
        both = Tokens(algorithm=algorithm, public_key=keys.public, private_key=keys.private)
        token = both.issue("alice", NOW, 60)
        assert both.verify(token, NOW).user_id == "alice"
        assert Tokens(algorithm=algorithm, public_key=keys.public).verify(token, NOW).user_id == "alice"
        assert Tokens(algorithm=algorithm, private_key=keys.private).verify(token, NOW).user_id == "alice"
        with pytest.raises(UsageError, match="private key"):
            Tokens(algorithm=algorithm, public_key=keys.public).issue("alice", NOW)
        refused_token(token[:-6] + "AAAAAA", by=both)


def test_settings_become_tokens(ec_keys: Keys) -> None:
    plain = Tokens.from_settings(Settings(jwt_secret=SecretStr(SECRET), jwt_leeway_seconds=7))
    assert plain.leeway_seconds == 7
    assert plain.verify(tokens.issue("alice", NOW), NOW).user_id == "alice"
    settings = Settings(
        jwt_algorithm="ES256",
        jwt_public_key=ec_keys.public,
        jwt_private_key=SecretStr(ec_keys.private),
        jwt_audience="chat",
        jwt_issuer="us",
    )
    signing = Tokens.from_settings(settings)
    assert signing.verify(signing.issue("alice", NOW), NOW).claims["aud"] == "chat"


def test_the_claim_user_id_comes_before_sub() -> None:
    assert tokens.verify(signed({"user_id": "alice", "sub": "bob"}), NOW).user_id == "alice"
    assert tokens.verify(signed({"sub": "bob"}), NOW).user_id == "bob"
    assert refused_token(signed({"user_id": None, "sub": "bob"})).code == "invalid_token"
    assert refused_token(signed({"name": "bob"})).code == "invalid_token"


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({"scope": "a b"}, {"a", "b"}),
        ({"scope": " a  b "}, {"a", "b"}),
        ({"scope": ""}, set()),
        ({"scopes": ["a", "b c"]}, {"a", "b c"}),
        ({"scopes": []}, set()),
        ({"scope": "a", "scopes": ["b"]}, {"a", "b"}),
        ({"scope": None, "scopes": None}, set()),
        ({}, set()),
    ],
)
def test_scopes_come_as_text_or_as_a_list(claims: dict[str, Any], scopes: set[str]) -> None:
    assert tokens.verify(signed({"sub": "alice", **claims}), NOW).scopes == scopes


@pytest.mark.parametrize(
    "claims",
    [
        {"scope": ["a"]},
        {"scope": 5},
        {"scopes": "a"},
        {"scopes": {"a": 1}},
        {"scopes": [5]},
        {"scopes": ["\ud800"]},
        {"scope": "a\nb"},
    ],
)
def test_other_scopes_are_refused(claims: dict[str, Any]) -> None:
    assert "scopes" in refused_token(signed({"sub": "alice", **claims})).message


@pytest.mark.parametrize("scope", ["", "a b", 'a"b', "a\\b", "ü", "a\n"])
def test_a_scope_that_cannot_be_written_is_a_usage_error(scope: str) -> None:
    with pytest.raises(UsageError, match="scope"):
        tokens.issue("alice", NOW, 60, [scope])


@pytest.mark.parametrize("expires_in", [0, -1, float("inf"), float("nan"), 2.0**60])
def test_a_senseless_expiry_is_a_usage_error(expires_in: float) -> None:
    with pytest.raises(UsageError, match="expires"):
        tokens.issue("alice", NOW, expires_in)


@given(st.text(max_size=10), st.lists(st.text(max_size=5), max_size=3), st.none() | st.floats())
def test_whatever_is_issued_is_verified(user: str, scopes: list[str], expires_in: float | None) -> None:
    try:
        token = tokens.issue(user, NOW, expires_in, scopes)
    except UsageError:
        return
    identity = tokens.verify(token, NOW)
    assert (identity.user_id, identity.scopes) == (user, frozenset(scopes))


# ── keys at construction ─────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("algorithm", ["none", "None", "", "HS512", "RS512", "ES384", "PS256", "EdDSA"])
def test_other_algorithms_cannot_be_configured(algorithm: str) -> None:
    with pytest.raises(UsageError, match="algorithms"):
        Tokens(algorithm=algorithm, secret=SECRET)


@pytest.mark.parametrize("leeway", [-1, float("inf"), float("nan")])
def test_a_senseless_leeway_is_a_usage_error(leeway: float) -> None:
    with pytest.raises(UsageError, match="leeway"):
        Tokens(secret=SECRET, leeway_seconds=leeway)


@pytest.mark.parametrize("secret", [None, "", b"", "\ud800"])
def test_hs256_needs_a_secret(secret: str | bytes | None) -> None:
    with pytest.raises(UsageError, match="secret"):
        Tokens(secret=secret)


def disguises(keys: Keys) -> Iterator[str | bytes]:
    yield keys.public
    yield keys.public.encode()
    yield "\n  " + keys.public
    yield keys.private
    yield keys.ssh
    yield keys.public_der
    yield json.dumps(keys.jwk)
    yield json.dumps({"keys": [keys.jwk]})
    yield f" [{json.dumps(keys.jwk)}]\n"
    yield base64.b64encode(keys.public_der)
    yield "".join(keys.public.splitlines(keepends=True)[1:-1])


@pytest.mark.hostile("E1")
def test_hs256_refuses_a_public_key_as_its_secret(rsa_keys: Keys, ec_keys: Keys) -> None:
    for secret in (*disguises(rsa_keys), *disguises(ec_keys), "[" * 50_000 + "]" * 50_000):
        with pytest.raises(UsageError, match="random secret") as caught:
            Tokens(secret=secret)
        assert str(secret)[:40] not in str(caught.value)


def test_hs256_refuses_a_certificate_as_its_secret(ec_keys: Keys) -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer.example")])
    builder = x509.CertificateBuilder(name, name, ec_keys.key.public_key(), x509.random_serial_number())
    dated = builder.not_valid_before(datetime(2026, 1, 1, tzinfo=UTC)).not_valid_after(datetime(2036, 1, 1, tzinfo=UTC))
    certificate = dated.sign(ec_keys.key, SHA256()).public_bytes(Encoding.DER)
    with pytest.raises(UsageError, match="random secret"):
        Tokens(secret=certificate)
    with pytest.raises(UsageError, match="random secret"):
        Tokens(secret=base64.encodebytes(certificate))


@pytest.mark.parametrize(
    "secret", ["12345678901234567890123456789012", "c2VjcmV0", '"text"', "null", "{not json", b"\x30\x82\x01"]
)
def test_hs256_takes_any_other_secret(secret: str | bytes) -> None:
    some = Tokens(secret=secret)
    assert some.verify(some.issue("alice", NOW), NOW).user_id == "alice"


def test_a_short_secret_works_in_development_without_a_warning_for_each_token() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        short = Tokens(secret="short")
        assert short.verify(short.issue("alice", NOW), NOW).user_id == "alice"


def test_keys_that_do_not_fit_are_usage_errors(rsa_keys: Keys, ec_keys: Keys) -> None:
    small = pem_keys(rsa.generate_private_key(65537, 1024))
    other_curve = pem_keys(ec.generate_private_key(ec.SECP384R1()))
    stranger = pem_keys(ec.generate_private_key(ec.SECP256R1()))
    wrong: list[dict[str, str]] = [
        {"algorithm": "RS256"},
        {"algorithm": "RS256", "secret": SECRET},
        {"algorithm": "RS256", "public_key": ec_keys.public},
        {"algorithm": "RS256", "public_key": small.public},
        {"algorithm": "RS256", "private_key": small.private},
        {"algorithm": "RS256", "public_key": rsa_keys.private},
        {"algorithm": "RS256", "private_key": rsa_keys.public},
        {"algorithm": "RS256", "public_key": "no PEM at all"},
        {"algorithm": "RS256", "public_key": "\ud800"},
        {"algorithm": "ES256", "public_key": rsa_keys.public},
        {"algorithm": "ES256", "public_key": other_curve.public},
        {"algorithm": "ES256", "private_key": other_curve.private},
        {"algorithm": "ES256", "public_key": ec_keys.public, "private_key": stranger.private},
    ]
    for arguments in wrong:
        with pytest.raises(UsageError) as caught:
            Tokens(**arguments)  # type: ignore[arg-type]
        assert "BEGIN" not in str(caught.value)
        assert caught.value.__context__ is None


# ── hostile tokens ───────────────────────────────────────────────────────────────────────────────
ALICE = {"sub": "alice"}
HEAD = base64url(b'{"alg":"HS256"}')


@pytest.mark.hostile("E1", "E3")
@pytest.mark.parametrize(
    "token",
    [
        pytest.param(signed(ALICE, alg="none"), id="alg none with a signature"),
        pytest.param(signed(ALICE, alg="none").rsplit(".", 1)[0] + ".", id="alg none without a signature"),
        pytest.param(signed(ALICE, alg="None"), id="alg None"),
        pytest.param(signed(ALICE, alg=None), id="alg null"),
        pytest.param(signed(ALICE, alg=["HS256"]), id="alg a list"),
        pytest.param(signed(ALICE, alg={"HS256": 1}), id="alg an object"),
        pytest.param(signed(ALICE, alg="HS512"), id="another algorithm of the family"),
        pytest.param(signed(ALICE, alg="RS256"), id="another family"),
        pytest.param(signed(ALICE, alg="hs256"), id="alg in lower case"),
        pytest.param(signed(ALICE, "another secret of some thirty-odd bytes"), id="another secret"),
        pytest.param(signed(ALICE, b"\0"), id="a secret of one NUL"),
        pytest.param(signed(ALICE, crit=["exp"]), id="unknown crit"),
        pytest.param(signed(ALICE, crit=["b64"], b64=True), id="known crit"),
        pytest.param(signed(ALICE, crit=[]), id="empty crit"),
        pytest.param(signed(ALICE, crit="exp"), id="crit not a list"),
        pytest.param(signed(ALICE, crit=None), id="crit null"),
        pytest.param(signed(ALICE, crit=["b64"], b64=False), id="detached payload"),
        pytest.param(signed(ALICE, b64=True), id="b64 without crit"),
        pytest.param(signed(ALICE) + ".AAAA", id="four parts"),
        pytest.param(signed(ALICE) + "=", id="padding that is not due"),
        pytest.param(signed(ALICE)[:-1] + "é", id="not ASCII"),
        pytest.param(signed(ALICE) + "\ud800", id="lone surrogate"),
        pytest.param(signed(ALICE) + "\n", id="newline behind"),
        pytest.param(" " + signed(ALICE), id="space before"),
        pytest.param(signed(ALICE).rsplit(".", 1)[0], id="no signature"),
        pytest.param("", id="empty"),
        pytest.param("..", id="three empty parts"),
        pytest.param("Bearer " + signed(ALICE), id="with its scheme"),
        pytest.param(f"{base64url(b'[' * 4000)}.{HEAD}.AAAA", id="deep header"),
        pytest.param(f"{base64url(b'[]')}.{HEAD}.AAAA", id="header a list"),
        pytest.param(signed_text("[" * 4000), id="deep claims"),
        pytest.param(signed(["alice"]), id="claims a list"),
        pytest.param(signed_text('"alice"'), id="claims a text"),
        pytest.param(signed_text("null"), id="claims null"),
        pytest.param(signed_text("not JSON"), id="claims not JSON"),
        pytest.param(signed_text('{"sub":"alice","exp":NaN}'), id="NaN"),
        pytest.param(signed_text('{"sub":"alice","x":Infinity}'), id="Infinity"),
        pytest.param(signed_text('{"sub":"alice","exp":' + "9" * 5000 + "}"), id="5,000 digits"),
        pytest.param(signed({"sub": "alice", "x": "y" * TOKEN_LIMIT}), id="too long"),
        pytest.param("A" * 10_000_000, id="10 MB"),
        pytest.param(None, id="nothing"),
        pytest.param(5, id="a number"),
        pytest.param({"token": "x"}, id="an object"),
        pytest.param([], id="a list"),
        pytest.param(signed(ALICE).encode(), id="bytes"),
    ],
)
def test_a_hostile_token_is_refused(token: object) -> None:
    error = refused_token(token)
    assert (error.code, error.message) == ("invalid_token", "Invalid token")


def test_the_longest_token_is_taken() -> None:
    filler = next(n for n in range(TOKEN_LIMIT) if len(signed({"sub": "alice", "x": "y" * n})) > TOKEN_LIMIT - 4)
    token = signed({"sub": "alice", "x": "y" * filler})
    assert TOKEN_LIMIT - 4 < len(token) <= TOKEN_LIMIT
    assert tokens.verify(token, NOW).user_id == "alice"


@pytest.mark.hostile("E1")
def test_a_public_key_signs_no_hmac_token(rsa_keys: Keys) -> None:
    """Algorithm confusion: whoever knows the public key signs with it as if it were a shared secret."""
    by_key = Tokens(algorithm="RS256", public_key=rsa_keys.public)
    for secret in disguises(rsa_keys):
        for disguised in (signed(ALICE, secret), signed(ALICE, secret, alg="RS256")):
            assert refused_token(disguised, by=by_key).code == "invalid_token"


@pytest.mark.hostile("E1")
def test_a_key_that_the_token_brings_along_is_not_looked_at(rsa_keys: Keys, ec_keys: Keys) -> None:
    stranger = pem_keys(rsa.generate_private_key(65537, 2048))
    by_key = Tokens(algorithm="RS256", public_key=rsa_keys.public)
    brought = {"jwk": stranger.jwk, "jku": "http://127.0.0.1/keys", "x5u": "http://127.0.0.1/", "x5c": ["AAAA"]}

    def rs256(keys: Keys, **header: Any) -> str:
        body = signed(ALICE, alg="RS256", **header).rsplit(".", 1)[0]
        return f"{body}.{base64url(keys.key.sign(body.encode(), padding.PKCS1v15(), SHA256()))}"

    for name, value in brought.items():
        refused_token(rs256(stranger, **{name: value}), by=by_key)
        assert by_key.verify(rs256(rsa_keys, **{name: value}), NOW).user_id == "alice"
        assert tokens.verify(signed(ALICE, **{name: value}), NOW).user_id == "alice"


@pytest.mark.hostile("E2")
@pytest.mark.parametrize(
    "kid", ["../../../../dev/null", "/etc/passwd", "' OR 1=1 --", "http://127.0.0.1/", "\0", "k" * 500]
)
def test_a_kid_finds_nothing(kid: str) -> None:
    assert tokens.verify(signed(ALICE, kid=kid), NOW).user_id == "alice"
    for secret in ("", "\0", kid):
        refused_token(signed(ALICE, secret, kid=kid))


@pytest.mark.parametrize("kid", [7, None, [], {"a": 1}])
def test_a_kid_that_is_no_text_finds_nothing_either(kid: object) -> None:
    assert outcome(signed(ALICE, kid=kid)) in {"alice", "invalid_token"}
    refused_token(signed(ALICE, "\0", kid=kid))


@pytest.mark.hostile("E2")
def test_the_same_kid_at_two_issuers_is_two_keys() -> None:
    ours = Tokens(secret=SECRET, issuer="https://one.example")
    other_secret = "the secret of the other issuer, 39 bytes"
    assert ours.verify(signed({**ALICE, "iss": "https://one.example"}, kid="1"), NOW).user_id == "alice"
    refused_token(signed({**ALICE, "iss": "https://two.example"}, kid="1"), by=ours)
    refused_token(signed({**ALICE, "iss": "https://one.example"}, other_secret, kid="1"), by=ours)


@pytest.mark.hostile("E3")
@pytest.mark.parametrize(
    ("audience", "allowed"),
    [
        ("chat", True),
        (["chat"], True),
        (["shop", "chat"], True),
        ("shop", False),
        (["shop"], False),
        ("chat ", False),
        ("Chat", False),
        ("", False),
        ([], False),
        (None, False),
        (["c", "h", "a", "t"], False),
        ({"chat": 1}, False),
        ([["chat"]], False),
        (5, False),
    ],
)
def test_the_audience_is_asked_for(audience: object, allowed: bool) -> None:
    strict = Tokens(secret=SECRET, audience="chat")
    token = signed({**ALICE, "aud": audience})
    if allowed:
        assert strict.verify(token, NOW).user_id == "alice"
    else:
        assert "audience" in refused_token(token, by=strict).message


def test_an_audience_is_missing_or_not_expected() -> None:
    refused_token(signed(ALICE), by=Tokens(secret=SECRET, audience="chat"))
    for audience in ("shop", ["shop"], {"shop": 1}, 5):
        refused_token(signed({**ALICE, "aud": audience}))
    for text in ('""', "[]", "null"):
        assert tokens.verify(signed_text('{"sub":"alice","aud":' + text + "}"), NOW).user_id == "alice"


@pytest.mark.hostile("E3")
@pytest.mark.parametrize(
    "issuer", ["https://two.example", "https://one.example/", "", None, ["https://one.example"], 5]
)
def test_the_issuer_is_asked_for(issuer: object) -> None:
    strict = Tokens(secret=SECRET, issuer="https://one.example")
    assert "issuer" in refused_token(signed({**ALICE, "iss": issuer}), by=strict).message
    refused_token(signed(ALICE), by=strict)
    assert tokens.verify(signed({**ALICE, "iss": issuer}), NOW).user_id == "alice"


def test_a_token_expires_a_leeway_after_its_time() -> None:
    token = tokens.issue("alice", NOW, 60)
    for now in (NOW, NOW + 59.9, NOW + 60, NOW + 64.9):
        assert tokens.verify(token, now).expires_at == NOW + 60
    for now in (NOW + 65, NOW + 1e9):
        error = refused_token(token, now)
        assert (error.code, error.message) == ("expired_token", "The token has expired")
    exact = Tokens(secret=SECRET, leeway_seconds=0)
    assert exact.verify(token, NOW + 59.99)
    assert refused_token(token, NOW + 60, exact).code == "expired_token"


def test_the_time_is_the_callers_not_the_machines() -> None:
    assert tokens.verify(signed({**ALICE, "exp": 100, "nbf": 40, "iat": 40}), 50.0).expires_at == 100
    far = 9e12
    assert tokens.verify(signed({**ALICE, "exp": far + 1, "nbf": far, "iat": far}), far).expires_at == far + 1


@pytest.mark.hostile("E3")
@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_a_token_from_the_future_is_refused(claim: str) -> None:
    token = signed({**ALICE, claim: NOW + 100})
    assert refused_token(token, NOW + 94.9).message == "Invalid token: it is not valid yet"
    assert tokens.verify(token, NOW + 95).user_id == "alice"


@pytest.mark.hostile("E3")
@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
@pytest.mark.parametrize(
    "value", ["1", str(int(NOW + 9)), "", None, True, [], {}, [NOW], 10**400, -(10**400), 2**54, "NaN"]
)
def test_a_time_that_is_no_number_is_refused(claim: str, value: object) -> None:
    assert refused_token(signed({**ALICE, claim: value})).code == "invalid_token"


@pytest.mark.parametrize("value", ["1e400", "-1e400"])
def test_a_time_beyond_all_numbers_is_refused(value: str) -> None:
    assert refused_token(signed_text('{"sub":"alice","exp":' + value + "}")).code == "invalid_token"


def test_claims_nested_deeply_crash_nothing() -> None:
    """How deep a library reads is its own affair, and differs between versions of Python."""
    for depth in (900, 1_100, 3_000):
        nested = signed_text('{"sub":"alice","a":' + "[" * depth + "]" * depth + "}")
        assert outcome(nested) in {"alice", "invalid_token"}


def test_the_last_of_two_equal_claims_wins() -> None:
    assert tokens.verify(signed_text('{"sub":"bob","sub":"alice"}'), NOW).user_id == "alice"


def test_one_bit_changed_is_noticed() -> None:
    token = tokens.issue("alice", NOW, 60)
    for place, character in enumerate(token):
        changed = token[:place] + ("A" if character != "A" else "B") + token[place + 1 :]
        assert refused_token(changed).code == "invalid_token", place


@given(st.text(max_size=60) | st.lists(st.text("abcAB01-_=", max_size=20), max_size=5).map(".".join))
def test_any_text_is_refused_quietly(text: str) -> None:
    assert refused(lambda: tokens.verify(text, NOW)).code == "invalid_token"


@given(
    st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jwk", "zip", "cty"]), json_values, max_size=4)
)
def test_any_header_is_taken_or_refused(header: dict[str, Any]) -> None:
    assert outcome(signed(ALICE, **header)) in {"alice", "invalid_token"}


@given(
    st.dictionaries(
        st.sampled_from(["sub", "user_id", "exp", "nbf", "iat", "aud", "iss", "scope", "scopes", "jti"]),
        json_values | st.just("alice") | st.just(NOW),
        max_size=6,
    )
)
def test_any_claims_are_taken_or_refused(claims: dict[str, Any]) -> None:
    for by in (tokens, Tokens(secret=SECRET, audience="alice", issuer="alice")):
        if outcome(signed(claims), by) not in {"invalid_token", "expired_token"}:
            identity = by.verify(signed(claims), NOW)
            assert problem_with_user(identity.user_id) is None
            assert identity.expires_at is None or identity.expires_at + 5 > NOW
            assert json.dumps([*identity.scopes, identity.user_id], ensure_ascii=False).encode()


# ── where a token is found ───────────────────────────────────────────────────────────────────────
BEARER = f"bearer.{base64url(b'a.b.c')}"


def header(value: str | bytes) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), (b"authorization", value if isinstance(value, bytes) else value.encode())]


@pytest.mark.parametrize(
    ("headers", "query", "subprotocols", "found"),
    [
        pytest.param([], "", [], (None, None), id="nothing"),
        pytest.param(header("Bearer a.b.c"), "", [], ("a.b.c", None), id="header"),
        pytest.param(header("bearer  a.b.c "), "", [], ("a.b.c", None), id="header, other spelling"),
        pytest.param([(b"Authorization", b"BEARER a.b.c")], "", [], ("a.b.c", None), id="header, upper case"),
        pytest.param(header("Basic YTpi"), "", [], (None, None), id="another scheme"),
        pytest.param(header("Bearer2 a"), "", [], (None, None), id="a scheme that begins alike"),
        pytest.param([], "token=a.b.c", [], ("a.b.c", None), id="query text"),
        pytest.param([], b"x=1&token=a.b.c&y", [], ("a.b.c", None), id="query bytes"),
        pytest.param([], {"token": "a.b.c"}, [], ("a.b.c", None), id="query mapping"),
        pytest.param([], {"room": "lobby"}, [], (None, None), id="query mapping without"),
        pytest.param([], "token=&x=1", [], (None, None), id="empty in the query"),
        pytest.param([], {"token": ""}, [], (None, None), id="empty in the mapping"),
        pytest.param([], "Token=a.b.c", [], (None, None), id="another key"),
        pytest.param([], "token=a%2eb.c", [], ("a.b.c", None), id="escaped in the query"),
        pytest.param([], "", [SUBPROTOCOL, BEARER], ("a.b.c", SUBPROTOCOL), id="sub-protocol pair"),
        pytest.param([], "", [BEARER, "other", SUBPROTOCOL], ("a.b.c", SUBPROTOCOL), id="in any order"),
        pytest.param([], "", [SUBPROTOCOL], (None, SUBPROTOCOL), id="sub-protocol without a token"),
        pytest.param([], "token=a.b.c", [SUBPROTOCOL], ("a.b.c", SUBPROTOCOL), id="sub-protocol and query"),
        pytest.param([], "", ["graphql-ws", "Realtime.v1"], (None, None), id="other sub-protocols"),
        pytest.param(
            header("Bearer a.b.c"), "token=a.b.c", [SUBPROTOCOL, BEARER], ("a.b.c", SUBPROTOCOL), id="three times"
        ),
    ],
)
def test_where_a_token_is_found(
    headers: list[tuple[bytes, bytes]], query: Any, subprotocols: list[str], found: tuple[str | None, str | None]
) -> None:
    assert find_token(headers, query, subprotocols) == found


@pytest.mark.parametrize(
    ("headers", "query", "subprotocols"),
    [
        pytest.param(header("Bearer"), "", [], id="header without a token"),
        pytest.param(header("Bearer   "), "", [], id="header with an empty token"),
        pytest.param(header("Bearer a b"), "", [], id="header with two words"),
        pytest.param(header("Bearer a\tb"), "", [], id="header with a tab"),
        pytest.param(header(b"Bearer a\x0bb"), "", [], id="header with a vertical tab"),
        pytest.param(header(b"Bearer a\x85"), "", [], id="header with NEL"),
        pytest.param(header("Bearer é"), "", [], id="header not ASCII"),
        pytest.param(header("Bearer " + "a" * 8193), "", [], id="header too long"),
        pytest.param([], "token=" + "a" * 8193, [], id="query too long"),
        pytest.param([], "token=%ff", [], id="query not UTF-8"),
        pytest.param([], b"token=\xff", [], id="query not ASCII"),
        pytest.param([], "token=a%0d%0ab", [], id="query with CRLF"),
        pytest.param([], "token=a%1b[31m", [], id="query with ANSI"),
        pytest.param([], "token=a+b", [], id="query with a space"),
        pytest.param([], "", [SUBPROTOCOL, "bearer."], id="sub-protocol, empty"),
        pytest.param([], "", [SUBPROTOCOL, "bearer.a"], id="sub-protocol, one character"),
        pytest.param([], "", [SUBPROTOCOL, BEARER + "="], id="sub-protocol, padded"),
        pytest.param([], "", [SUBPROTOCOL, "bearer.YWJ"], id="sub-protocol, bits left over"),
        pytest.param([], "", [SUBPROTOCOL, "bearer.a+b/"], id="sub-protocol, the other alphabet"),
        pytest.param([], "", [SUBPROTOCOL, "bearer.é"], id="sub-protocol, not ASCII"),
        pytest.param([], "", [SUBPROTOCOL, "bearer." + base64url(b"\xff\xfe")], id="sub-protocol, bytes inside"),
        pytest.param([], "", [SUBPROTOCOL, "bearer." + base64url(b"a\nb")], id="sub-protocol, newline inside"),
        pytest.param([], "", [SUBPROTOCOL, "bearer." + "a" * 100_000], id="sub-protocol, 100 KB"),
        pytest.param([], "", [SUBPROTOCOL, "bearer." + base64url(b"a" * 8193)], id="sub-protocol, too long"),
        pytest.param([], "", [BEARER], id="sub-protocol without its other half"),
        pytest.param(header("Bearer a") + header("Bearer b"), "", [], id="two headers"),
        pytest.param([], "token=a&token=b", [], id="two in the query"),
        pytest.param([], "", [SUBPROTOCOL, BEARER, f"bearer.{base64url(b'x.y.z')}"], id="two sub-protocols"),
        pytest.param(header("Bearer a"), "token=b", [], id="header and query differ"),
        pytest.param(header("Bearer a"), "", [SUBPROTOCOL, BEARER], id="header and sub-protocol differ"),
        pytest.param([], "token=b", [SUBPROTOCOL, BEARER], id="sub-protocol and query differ"),
    ],
)
def test_a_malformed_or_doubled_token_is_refused(
    headers: list[tuple[bytes, bytes]], query: Any, subprotocols: list[str]
) -> None:
    error = refused(lambda: find_token(headers, query, subprotocols), "a.b.c", "x.y.z", BEARER)
    assert error.code == "invalid_token"


def test_the_longest_token_is_found_everywhere() -> None:
    token = "a" * TOKEN_LIMIT
    pair = [SUBPROTOCOL, "bearer." + base64url(token.encode())]
    assert find_token(header(f"Bearer {token}"), f"token={token}", pair) == (token, SUBPROTOCOL)


@given(
    st.lists(st.tuples(st.just(b"authorization") | st.binary(max_size=5), st.binary(max_size=20)), max_size=3),
    st.binary(max_size=20) | st.binary(max_size=10).map(lambda value: b"token=" + value) | st.text(max_size=20),
    st.lists(st.just(SUBPROTOCOL) | st.text(max_size=10) | st.text(max_size=10).map(lambda value: f"bearer.{value}")),
)
def test_any_handshake_is_searched_without_a_crash(
    headers: list[tuple[bytes, bytes]], query: str | bytes, subprotocols: list[str]
) -> None:
    try:
        token, answer = find_token(headers, query, subprotocols)
    except AccessError as error:
        token, answer = error.code, None
    assert answer in (None, SUBPROTOCOL)
    assert token is None or (token.isascii() and token.isprintable())
