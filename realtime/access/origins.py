"""Pure: no I/O, no clock, no task. Which pages may connect, and whose address it is: one policy for every wire.

Polling, Socket.IO over WebSocket and raw routes ask ``OriginPolicy.allows_scope``; the answers of polling
carry ``cors_headers``. A missing Origin is accepted: only browsers send one, and only pages are kept out.
Whatever bytes a header holds, nothing here raises; what cannot be read is not allowed.
Sources: RFC 6454 (Origin), the Fetch standard (CORS), RFC 7239 section 7.1 and common practice (X-Forwarded-*).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final, Literal

from realtime.errors import UsageError
from realtime.settings import Settings

Address = IPv4Address | IPv6Address
Networks = tuple[IPv4Network | IPv6Network, ...]
Headers = list[tuple[bytes, bytes]]
Scope = Mapping[str, Any]
Place = tuple[str, str, int | None]
"""Scheme, host and port of an origin, in one spelling; the port is None where none is given or usual."""

PREFLIGHT_SECONDS: Final = 600
"""How long a browser may remember a preflight. Browsers keep it 2 hours at most; a changed list should show sooner."""
PREFLIGHT_HEADERS: Final = 32
"""Header names echoed to one preflight. A page asks for two or three."""

# Letters are spelt out: under IGNORECASE the long s and the Kelvin sign would pass for ASCII.
_ORIGIN: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")
_FIELD_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_PAGE_SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_LOOPBACK: Final = IPv4Network("127.0.0.0/8")
_BORDER: Final = " \t"
"""Optional white space of HTTP. ``str.strip()`` would take NEL and the like away as well."""


class OriginPolicy:
    """Decides by Origin who may connect.

    ``allowed`` is a list of origins (``https://app.example``, and ``null`` if it must be), ``"*"`` for every
    page of the world, or None or empty for pages from the host that they connect to. In development pages
    from loopback (``localhost``, 127.0.0.0/8, ``[::1]``) are allowed on any port as well.
    ``trusted_proxies`` are addresses or networks whose X-Forwarded headers are believed.
    ``credentials`` lets pages of other origins send cookies, which sticky sessions need.
    Raises UsageError for a list entry that no Origin header could ever equal.
    """

    def __init__(
        self,
        allowed: Sequence[str] | Literal["*"] | None = None,
        *,
        development: bool = False,
        trusted_proxies: Iterable[str] = (),
        credentials: bool = True,
    ) -> None:
        listed = [allowed] if isinstance(allowed, str) else list(allowed or ())
        self._anybody = "*" in listed
        self._null = "null" in listed
        self._same_host = not listed
        self._places = frozenset(_listed_place(text) for text in listed if text not in ("*", "null"))
        self._development = development
        self._credentials = credentials
        self.trusted_proxies = parse_networks(trusted_proxies)

    @classmethod
    def from_settings(cls, settings: Settings) -> OriginPolicy:
        return cls(
            settings.allowed_origins, development=not settings.production, trusted_proxies=settings.trusted_proxies
        )

    def allows_scope(self, scope: Scope) -> bool:
        """May the sender of this request (any ASGI ``http`` or ``websocket`` scope) connect?"""
        origin = header(scope, b"origin")
        if origin is None:
            return True
        host, scheme = effective_host(scope, self.trusted_proxies)
        return self.allows(origin, host, scheme)

    def allows(self, origin: str | None, host: str | None, scheme: str) -> bool:
        """``host`` as in the Host header, ``scheme`` that of the request (``ws`` counts as ``http``)."""
        if origin is None or self._allows_anywhere(origin):
            return True
        if not self._same_host or host is None:
            return False
        place = parse_origin(origin)
        return place is not None and place == parse_origin(f"{_PAGE_SCHEMES.get(scheme.lower(), '')}://{host}")

    def cors_headers(self, origin: str | None) -> Headers:
        """What to add to an answer. A page of our own host needs nothing, a page that may not connect gets nothing."""
        if origin is None or not self._allows_anywhere(origin) or not _can_be_echoed(origin):
            return [(b"vary", b"Origin")]
        found = [(b"access-control-allow-origin", origin.encode("ascii")), (b"vary", b"Origin")]
        if self._credentials:
            found.append((b"access-control-allow-credentials", b"true"))
        return found

    def preflight_headers(self, origin: str | None, asked: str | None = None) -> Headers:
        """The answer to OPTIONS; ``asked`` is Access-Control-Request-Headers, echoed as far as it names headers."""
        found = self.cors_headers(origin)
        if len(found) == 1:
            return found
        found += [
            (b"access-control-allow-methods", b"GET, POST, PUT, OPTIONS"),
            (b"access-control-max-age", str(PREFLIGHT_SECONDS).encode()),
            (b"vary", b"Access-Control-Request-Headers"),
        ]
        names = [name.strip(_BORDER) for name in (asked or "").split(",", PREFLIGHT_HEADERS)[:PREFLIGHT_HEADERS]]
        named = [name for name in names if _FIELD_NAME.fullmatch(name)]
        if named:
            found.append((b"access-control-allow-headers", ", ".join(named).encode("ascii")))
        return found

    def client_address(self, scope: Scope) -> str:
        return client_address(scope, self.trusted_proxies)

    def is_exempt(self, address: str) -> bool:
        """Loopback and trusted proxies are not counted by limits per address (CONTRACT section 5)."""
        parsed = _parse_address(address)
        return parsed is not None and (_is_loopback(parsed) or _is_trusted(parsed, self.trusted_proxies))

    def _allows_anywhere(self, origin: str) -> bool:
        """Whatever host is connected to."""
        if self._anybody:
            return True
        if origin == "null":
            return self._null
        place = parse_origin(origin)
        return place is not None and (place in self._places or (self._development and _is_local_page(place)))


def parse_origin(text: str) -> Place | None:
    """The parts of ``scheme://host[:port]`` and nothing around them, so that equal places are equal.

    None for anything else: a path, a user, a fragment, an impossible port or address, white space.
    A dot at the end makes another host, as it does for browsers.
    """
    found = _ORIGIN.fullmatch(text)
    if found is None:
        return None
    scheme, host, port = found[1].lower(), found[2].lower(), int(found[3]) if found[3] else None
    if port is not None and port > 65535:
        return None
    if host.startswith("["):
        try:
            host = f"[{IPv6Address(host[1:-1])}]"
        except ValueError:
            return None
    return scheme, host, None if port == _DEFAULT_PORTS.get(scheme) else port


def parse_networks(texts: Iterable[str]) -> Networks:
    """Addresses and networks (``10.0.0.0/8``, ``::1``). Raises UsageError for anything else."""
    found = []
    for text in texts:
        try:
            found.append(ip_network(text))
        except ValueError as error:
            raise UsageError(f"A trusted proxy is an address or a network such as 10.0.0.0/8: {error}") from None
    return tuple(found)


def header(scope: Scope, name: bytes) -> str | None:
    """The value of a header; repeated ones are joined by commas (RFC 9110 section 5.3), so two origins are none."""
    values = [value for key, value in scope.get("headers", ()) if key.lower() == name]
    return b", ".join(values).decode("latin-1") if values else None


def effective_host(scope: Scope, trusted_proxies: Networks = ()) -> tuple[str | None, str]:
    """Host header and scheme as the client's browser knows them.

    X-Forwarded-Host and X-Forwarded-Proto count only when the peer is a trusted proxy, and then their last
    entry: it is the proxy's own, earlier ones may be the client's.
    """
    host, scheme = header(scope, b"host"), str(scope.get("scheme", "http"))
    peer = _parse_address(_peer(scope))
    if peer is not None and _is_trusted(peer, trusted_proxies):
        host = _last_entry(scope, b"x-forwarded-host") or host
        scheme = _last_entry(scope, b"x-forwarded-proto") or scheme
    return host, scheme


def client_address(scope: Scope, trusted_proxies: Networks = ()) -> str:
    """The address of the client: the peer's own, or the last one in X-Forwarded-For that is no trusted proxy.

    X-Forwarded-For counts only as far as trusted proxies wrote it; an entry that is no address ends it, and
    the proxy that passed it on stands for the client. Empty for a peer without an address (a UNIX socket).
    """
    peer = _peer(scope)
    address = _parse_address(peer)
    if address is None:
        return peer
    if _is_trusted(address, trusted_proxies):
        for entry in reversed((header(scope, b"x-forwarded-for") or "").split(",")):
            before = _parse_address(_without_port(entry.strip(_BORDER)))
            if before is None:
                break
            address = before
            if not _is_trusted(address, trusted_proxies):
                break
    return str(address)


def _listed_place(text: str) -> Place:
    place = parse_origin(text)
    if place is None:
        raise UsageError(f'An allowed origin is written like "https://app.example" or "http://host:3000", not {text!r}')
    return place


def _can_be_echoed(origin: str) -> bool:
    """With ``*`` everything is allowed, but only what looks like an origin is fit for a header."""
    return origin == "null" or parse_origin(origin) is not None


def _is_local_page(place: Place) -> bool:
    scheme, host, _ = place
    if scheme not in _DEFAULT_PORTS:
        return False
    address = _parse_address(host.strip("[]"))
    return host == "localhost" if address is None else _is_loopback(address)


def _is_loopback(address: Address) -> bool:
    # Not ``is_loopback``: what that says about IPv4 inside IPv6 differs between versions of Python.
    return address in _LOOPBACK if isinstance(address, IPv4Address) else address == IPv6Address(1)


def _is_trusted(address: Address, trusted_proxies: Networks) -> bool:
    return any(address in network for network in trusted_proxies)


def _parse_address(text: str) -> Address | None:
    """IPv4 inside IPv6 becomes IPv4; a zone (``fe80::1%eth0``) is free text and therefore refused."""
    if "%" in text:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _without_port(entry: str) -> str:
    """Some proxies add one: ``192.0.2.1:4711``, ``[2001:db8::1]:4711``."""
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def _last_entry(scope: Scope, name: bytes) -> str:
    return (header(scope, name) or "").rpartition(",")[2].strip(_BORDER)
