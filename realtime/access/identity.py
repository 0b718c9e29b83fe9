"""Pure: no I/O, no clock, no task. Who somebody is: tokens, scopes, and where in a handshake a token is found.

A token is verified with the one configured key and the one configured algorithm. Nothing in its header
chooses either: ``kid``, ``jwk``, ``jku`` and ``x5u`` are not looked at, ``crit`` is refused. No error here
carries a token, a key or the words of the library beneath, neither in its text nor as its cause.
Sources: RFC 7515 (JWS), RFC 7519 (JWT), RFC 8725 (best practice), RFC 6750 (Bearer).
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, NoReturn
from urllib.parse import parse_qsl

import jwt
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_private_key, load_pem_public_key
from jwt.algorithms import HMACAlgorithm

from realtime.errors import AccessError, UsageError
from realtime.names import SYSTEM_USER, problem_with_name
from realtime.settings import Settings

TOKEN_LIMIT: Final = 8_192
"""Characters of a token. Common proxies allow 8 KiB to a header line, so a longer one seldom arrives anyway."""

SUBPROTOCOL: Final = "realtime.v1"
BEARER_PREFIX: Final = "bearer."

_LATEST_SECONDS: Final = 2**53
"""Beyond this a float no longer holds every whole second; no honest token goes there (285 million years)."""
_RSA_BITS: Final = 2048
"""RFC 7518 section 3.3 asks for this much."""

_SCOPE: Final = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")
"""RFC 6749 section 3.3. Names with spaces or beyond ASCII come in the list form."""
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]+")
_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
"""RFC 7515 section 7.1. Libraries differ in how much padding and stray characters they pass over."""

ALGORITHMS: Final = frozenset({"HS256", "RS256", "ES256"})
_Key = Any
"""Bytes, or a key object of ``cryptography``: whatever fits the algorithm, checked when it is configured."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is connected. ``expires_at`` is in unix seconds, the claim ``exp`` itself, without leeway."""

    user_id: str
    scopes: frozenset[str] = frozenset()
    expires_at: float | None = None
    claims: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), compare=False, repr=False)
    anonymous: bool = False

    def allows(self, scope: str) -> bool:
        """A scope is granted word for word, by ``*``, or by one that ends in ``:*`` and covers what follows.

        ``notify:publish:*`` covers ``notify:publish:orders`` and ``notify:publish:orders:eu``, but neither
        ``notify:publish`` nor ``notify:publish:``. A ``*`` anywhere else is an ordinary character.
        """
        if scope in self.scopes or "*" in self.scopes:
            return True
        ends = (at + 1 for at, character in enumerate(scope) if character == ":")
        return any(f"{scope[:end]}*" in self.scopes for end in ends if end < len(scope))


def problem_with_user(user: object) -> str | None:
    """Say in one sentence why nobody can be called so; None when somebody can. For tokens and plain names alike."""
    problem = problem_with_name(user, "The user name")
    if problem is None and ":" in str(user):
        return "The user name contains a colon"  # it separates the two names of a direct room
    if problem is None and user == SYSTEM_USER:
        return f"Nobody may be called {SYSTEM_USER}"
    return problem


class Tokens:
    """Verifies and issues JSON Web Tokens under one algorithm (HS256, RS256 or ES256) and one key.

    HS256 takes ``secret``. RS256 and ES256 take PEM text: ``public_key`` verifies, ``private_key`` issues
    and stands in for a missing public one. Raises UsageError for a key that does not fit its algorithm,
    above all for a secret that is really a public key: whoever reads it could sign.
    """

    def __init__(
        self,
        *,
        algorithm: str = "HS256",
        secret: str | bytes | None = None,
        public_key: str | None = None,
        private_key: str | None = None,
        audience: str | None = None,
        issuer: str | None = None,
        leeway_seconds: float = 5,
    ) -> None:
        if algorithm not in ALGORITHMS:
            raise UsageError(f"One of the algorithms {', '.join(sorted(ALGORITHMS))}, not {algorithm!r}")
        if not 0 <= leeway_seconds < math.inf:
            raise UsageError(f"A leeway of at least 0 seconds, not {leeway_seconds!r}")
        self.leeway_seconds = leeway_seconds
        self._algorithm = algorithm
        self._audience = audience
        self._issuer = issuer
        self._jws = jwt.PyJWS(algorithms=[algorithm])  # knows no other, so "none" is not even a name to it
        if algorithm == "HS256":
            self._issue_key: _Key = _hmac_secret(secret)
            self._verify_key: _Key = self._issue_key
            self._jws.unregister_algorithm(algorithm)
            self._jws.register_algorithm(algorithm, _CheckedHmac(HMACAlgorithm.SHA256))
        else:
            self._issue_key, self._verify_key = _key_pair(algorithm, public_key, private_key)

    @classmethod
    def from_settings(cls, settings: Settings) -> Tokens:
        private = settings.jwt_private_key
        return cls(
            algorithm=settings.jwt_algorithm,
            secret=settings.jwt_secret.get_secret_value(),
            public_key=settings.jwt_public_key,
            private_key=private.get_secret_value() if private else None,
            audience=settings.jwt_audience,
            issuer=settings.jwt_issuer,
            leeway_seconds=settings.jwt_leeway_seconds,
        )

    def verify(self, token: object, now: float) -> Identity:
        """Whose token this is; ``now`` in unix seconds. Takes any object, for it may come out of a client's JSON.

        Raises AccessError ``expired_token``, or ``invalid_token`` for everything else that is wrong.
        A token with an ``aud`` where no audience is configured is refused (RFC 7519 section 4.1.3, and
        PyJWT's own rule); an ``iss`` where no issuer is configured is not looked at.
        """
        claims = self._open(token)
        self._check_party(claims)
        expires_at = self._check_times(claims, now)
        user = claims["user_id"] if "user_id" in claims else claims.get("sub")
        problem = problem_with_user(user)
        if problem is not None:
            _refuse(problem)
        return Identity(str(user), _scopes(claims), expires_at, MappingProxyType(claims))

    def issue(self, user: str, now: float, expires_in: float | None = None, scopes: Iterable[str] = ()) -> str:
        """A signed token for ``user``, good for ``expires_in`` seconds, or for ever with None.

        Raises UsageError for a name or scope that ``verify`` would refuse, and without a signing key.
        """
        problem = problem_with_user(user)
        if problem is not None:
            raise UsageError(problem)
        if expires_in is not None and not now < now + expires_in <= _LATEST_SECONDS:
            raise UsageError(f"A token expires in more than 0 seconds, not in {expires_in!r}")
        if self._issue_key is None:
            raise UsageError(f"Issuing {self._algorithm} tokens needs a private key")
        granted = list(scopes)
        for scope in granted:
            if not _SCOPE.fullmatch(scope):
                raise UsageError(f"A scope is printable ASCII without spaces, quotes and backslashes, not {scope!r}")
        claims: dict[str, Any] = {"sub": user, "iat": math.floor(now)}
        if expires_in is not None:
            claims["exp"] = now + expires_in
        if granted:
            claims["scope"] = " ".join(granted)
        if self._audience is not None:
            claims["aud"] = self._audience
        if self._issuer is not None:
            claims["iss"] = self._issuer
        payload = json.dumps(claims, separators=(",", ":")).encode()
        return self._jws.encode(payload, self._issue_key, algorithm=self._algorithm)

    def _open(self, token: object) -> dict[str, Any]:
        """The claims of a token with a right signature; nothing else about them is checked yet."""
        claims: object = None
        if isinstance(token, str) and len(token) <= TOKEN_LIMIT and _COMPACT.fullmatch(token):
            try:
                opened = self._jws.decode_complete(token, self._verify_key, algorithms=[self._algorithm])
                # PyJWT understands ``b64`` as an extension, and its older versions pass over ``crit``.
                if "crit" not in opened["header"] and "b64" not in opened["header"]:
                    claims = json.loads(opened["payload"], parse_constant=_no_constant)
            except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
                pass  # raised below, outside this block, so that the cause does not travel along
        if not isinstance(claims, dict):
            _refuse()
        return claims

    def _check_party(self, claims: Mapping[str, Any]) -> None:
        audience = claims.get("aud")
        if self._audience is None:
            meant_for_us = not audience
        else:
            meant_for_us = self._audience in (audience if isinstance(audience, list) else [audience])
        if not meant_for_us:
            _refuse("It is for another audience")
        if self._issuer is not None and claims.get("iss") != self._issuer:
            _refuse("It is from another issuer")

    def _check_times(self, claims: Mapping[str, Any], now: float) -> float | None:
        """The time of expiry, if there is one. Each time must be a number: a text such as "12" is none."""
        times = {name: _seconds(claims[name]) for name in ("exp", "nbf", "iat") if name in claims}
        for name in ("nbf", "iat"):
            if times.get(name, now) > now + self.leeway_seconds:
                _refuse("It is not valid yet")
        expires_at = times.get("exp")
        if expires_at is not None and expires_at + self.leeway_seconds <= now:
            raise AccessError("The token has expired", code="expired_token")
        return expires_at


def find_token(
    headers: Iterable[tuple[bytes, bytes]],
    query: Mapping[str, str] | str | bytes,
    subprotocols: Sequence[str] = (),
) -> tuple[str | None, str | None]:
    """The token of a handshake, and the sub-protocol to answer with; None for what is not there.

    Looks, in this order, at ``Authorization: Bearer``, at the sub-protocol pair ``realtime.v1`` and
    ``bearer.<base64url of the token, no padding>``, and at ``?token=``. An empty ``token=`` is no token;
    other kinds of Authorization are somebody else's. ``bearer.…`` is never answered with: it is a secret.
    ``headers`` and ``subprotocols`` as in an ASGI scope; ``query`` as a mapping or still encoded.

    Raises AccessError ``invalid_token`` where a token is malformed, where two different ones are offered,
    and where ``bearer.…`` comes without ``realtime.v1`` (a browser drops a connection without an answer to it).
    """
    answer = SUBPROTOCOL if SUBPROTOCOL in subprotocols else None
    bearers = [offered for offered in subprotocols if offered.startswith(BEARER_PREFIX)]
    if bearers and answer is None:
        _refuse(f"Offer the sub-protocol {SUBPROTOCOL} beside the one with the token")
    found = [
        *_from_headers(headers),
        *(_from_subprotocol(offered) for offered in bearers),
        *_from_query(query),
    ]
    if any(token != found[0] for token in found):
        _refuse("Two different ones came with one handshake")
    return (found[0] if found else None), answer


class _CheckedHmac(HMACAlgorithm):
    """HMAC whose key was checked once, when it was configured, instead of with every token."""

    def prepare_key(self, key: str | bytes) -> bytes:
        return key if isinstance(key, bytes) else key.encode()

    def check_key_length(self, key: bytes) -> str | None:
        return None  # ``Settings.problems`` judges it: production refuses a short one, development does not


def _refuse(reason: str = "") -> NoReturn:
    """``reason`` is a sentence about what a right signature vouches for, or about the way the token came."""
    told = f"Invalid token: {reason[0].lower()}{reason[1:]}" if reason else "Invalid token"
    raise AccessError(told, code="invalid_token")


def _no_constant(text: str) -> NoReturn:
    raise ValueError(text)  # NaN and the infinities, which JSON does not have


def _seconds(claim: object) -> float:
    if isinstance(claim, bool) or not isinstance(claim, int | float) or not abs(claim) <= _LATEST_SECONDS:
        _refuse("One of its times is not a number of seconds")
    return float(claim)


def _scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    """``scope``, a text with spaces between (RFC 8693), and ``scopes``, a list; both count where both are there."""
    text, many = claims.get("scope"), claims.get("scopes")
    if not isinstance(text, str | None) or not isinstance(many, list | None):
        _refuse("Its scopes are neither a text nor a list")
    found = [*(text or "").split(" "), *(many or ())]
    if not all(isinstance(scope, str) and scope.isprintable() for scope in found):
        _refuse("One of its scopes is not printable text")
    return frozenset(scope for scope in found if scope)


def _from_headers(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[str]:
    for name, value in headers:
        if name.lower() == b"authorization":
            scheme, _, token = value.partition(b" ")
            if scheme.lower() == b"bearer":
                yield _plain(token.strip(b" ").decode("latin-1"))


def _from_subprotocol(offered: str) -> str:
    encoded = offered.removeprefix(BEARER_PREFIX)
    if len(encoded) <= TOKEN_LIMIT * 2 and _BASE64URL.fullmatch(encoded):
        try:
            decoded = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        except binascii.Error:
            decoded = b""
        # Only one spelling is right: unused bits at the end are zero.
        if base64.urlsafe_b64encode(decoded).rstrip(b"=") == encoded.encode():
            return _plain(decoded.decode("latin-1"))
    _refuse()


def _from_query(query: Mapping[str, str] | str | bytes) -> Iterator[str]:
    if isinstance(query, Mapping):
        values = [query.get("token", "")]
    else:
        text = query.decode("latin-1") if isinstance(query, bytes) else query
        values = [value for name, value in parse_qsl(text) if name == "token"]
    yield from (_plain(value) for value in values if value)


def _plain(token: str) -> str:
    """A token as it may be: visible ASCII, not empty, not too long. What it says is for ``verify`` to judge."""
    if not token or len(token) > TOKEN_LIMIT or not token.isascii() or not token.isprintable() or " " in token:
        _refuse()
    return token


def _hmac_secret(secret: str | bytes | None) -> bytes:
    try:
        key = secret.encode() if isinstance(secret, str) else secret
    except UnicodeEncodeError:
        key = None
    if not key:
        raise UsageError("HS256 needs a secret: UTF-8 text, or bytes")
    if _looks_like_a_public_key(key):
        raise UsageError("The HS256 secret is a key or certificate, which others may know: set a random secret")
    return key


def _looks_like_a_public_key(secret: bytes) -> bool:
    """PEM, SSH, JWK (or a set of them), DER, or the body of a PEM without its frame."""
    if b"-----BEGIN" in secret or secret.startswith((b"ssh-", b"ecdsa-sha2-")):
        return True
    try:
        return isinstance(json.loads(secret), dict | list)
    except RecursionError:
        return True
    except ValueError:
        pass
    try:
        unframed = base64.b64decode(b"".join(secret.split()), validate=True)
    except ValueError:
        unframed = b""
    return _is_der(secret) or _is_der(unframed)


def _is_der(candidate: bytes) -> bool:
    for load in (load_der_public_key, x509.load_der_x509_certificate):
        try:
            load(candidate)
        except (ValueError, UnsupportedAlgorithm):
            continue
        return True
    return False


def _key_pair(algorithm: str, public_key: str | None, private_key: str | None) -> tuple[_Key, _Key]:
    """The keys to issue with (None without a private one) and to verify with. Raises UsageError, quoting none."""
    private: _Key = _read_pem(private_key, "private") if private_key else None
    public: _Key = _read_pem(public_key, "public") if public_key else None
    if public is None and private is None:
        raise UsageError(f"{algorithm} needs a public key as PEM text")
    for key in (private, public):
        if key is not None and not _fits(algorithm, key):
            raise UsageError(f"No key for {algorithm}: RS256 takes RSA of {_RSA_BITS} bits or more, ES256 takes P-256")
    if private is not None and public is not None and private.public_key() != public:
        raise UsageError("The public key does not belong to the private key")
    return private, public if public is not None else private.public_key()


def _read_pem(text: str, which: str) -> object:
    key: object = None
    try:
        data = text.encode()
        key = load_pem_private_key(data, None) if which == "private" else load_pem_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        pass
    if key is None:
        raise UsageError(f"The {which} key is not PEM text that can be read without a password")
    return key


def _fits(algorithm: str, key: object) -> bool:
    if algorithm == "RS256":
        return isinstance(key, rsa.RSAPublicKey | rsa.RSAPrivateKey) and key.key_size >= _RSA_BITS
    return isinstance(key, ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey) and key.curve.name == "secp256r1"
