"""What arrives from hostile and unlucky clients, and what has to happen: one row for each kind, with the wires on
which it can arrive.

In all of them no handler sees it, nothing grows, and everybody else is served meanwhile. *Refused* is: one counted
violation, the connection ended with 4501 (on polling with 400), and nothing of what came behind it is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SOCKETS: Final = frozenset({"fast", "websocket", "wsproto"})
ALL: Final = SOCKETS | {"polling"}
SERVED: Final = frozenset({"fast", "websocket", "polling"})
"""What `realtime serve` has, with ``--wire fast`` and ``--wire portable``."""
DOORS: Final = SERVED | {"plain", "HTTP"}


@dataclass(frozen=True)
class Row:
    arrives: str
    happens: str
    wires: frozenset[str]
    missing: str = ""
    """What no test shows yet."""


SECTIONS: Final = {
    "A": "Packets",
    "B": "Frames",
    "C": "Handshakes and HTTP",
    "D": "Names",
    "E": "Tokens (as far as they are there)",
    "F": "Authorisation (as far as it is there)",
    "G": "Bus (as far as it is there)",
    "H": "Load",
}

ROWS: Final[dict[str, Row]] = {
    # ── packets ──────────────────────────────────────────────────────────────────────────────────
    "A1": Row("an event named like one of the protocol's own (`connect`, `disconnect`, `*`, …)", "refused", ALL),
    "A2": Row(
        "an event named `error`, `__proto__`, like a dunder or a method that is no event",
        "unknown, like any other name without a handler",
        ALL,
    ),
    "A3": Row("an event whose name is no string, or has 129 characters", "refused", ALL),
    "A4": Row("a payload that is no list, is empty, is missing, is a bare string, is no JSON", "refused", ALL),
    "A5": Row("an acknowledgement id over 2^31, negative, in foreign digits, of 5,000 digits", "refused", ALL),
    "A6": Row(
        "acknowledgements that nobody asked for, one by one and in a flood; of another namespace",
        "ignored and counted, refused above a rate; one that is waited for arrives (0 is an id)",
        ALL,
    ),
    "A7": Row("a number of attachments that is 0, over 10, has 14 or foreign digits, or is missing", "refused", ALL),
    "A8": Row("text while an attachment is due; an attachment that nothing announced", "refused", ALL),
    "A9": Row(
        "attachments that never come, are too big together, or are cut off half-way",
        "refused when their time or size is over; forgotten with the connection",
        ALL,
    ),
    "A10": Row("a placeholder out of range, negative, twice, no number, a fraction", "refused", ALL),
    "A11": Row("JSON 65 or 100,000 deep; NaN and Infinity", "refused", ALL),
    "A12": Row("a message of one byte too many, in bytes and not in characters", "closed: 1009, on polling 413", ALL),
    "A13": Row(
        "half an emoji, numbers of 30 and 5,000 digits, a key twice",
        "taken, or answered with an error; the connection lives",
        ALL,
    ),
    "A14": Row(
        "a namespace of 100,000 characters, with a query, unknown, with control characters",
        "refused; the query cut off; unknown: CONNECT_ERROR",
        ALL,
    ),
    "A15": Row("a thousand namespaces on one connection", "CONNECT_ERROR for each over the limit", ALL),
    "A16": Row(
        "an unknown packet type, CONNECT_ERROR from a client, CONNECT twice, events before CONNECT and after one's own "
        "DISCONNECT",
        "refused",
        ALL,
    ),
    "A17": Row("an event for a namespace that the server has just ended", "ignored and counted", ALL),
    "A18": Row("a handshake, and nothing after it", "ended after the connect time-out", ALL),
    "A19": Row(
        "an upgrade without its probe, to a session that is over, with another protocol version, twice at once",
        "that attempt is closed; polling goes on until an upgrade has succeeded",
        SOCKETS,
    ),
    "A20": Row("17, 1,000 and 20,000 packets in one POST", "all served, others between them", frozenset({"polling"})),
    "A21": Row(
        "a POST over the size limit, announced or in chunks; one that is shorter than it says; no packets in it",
        "413 with nothing in it; 400",
        frozenset({"polling"}),
    ),
    "A22": Row("two polls at once, two posts at once", "the second ends the session", frozenset({"polling"})),
    "A23": Row(
        "a POST after the end, JSONP, a session id that is nobody's, `__proto__`, closed, or of a WebSocket",
        "400 with Engine.IO's reason",
        frozenset({"polling"}),
    ),
    "A24": Row("a binary broadcast to clients of every kind", "each gets its own form", ALL | {"MessagePack"}),
    "A25": Row(
        "a connect handler that raises, or refuses",
        "CONNECT_ERROR without its text, called once, no trace",
        ALL,
    ),
    "A26": Row("a client that leaves, or speaks, while its connect handler runs", "no trace; its words wait", ALL),
    "A27": Row("connections that end in every way", "the disconnect hook runs once for each that was let in", ALL),
    "A28": Row('`emit(to=[])` and `to=""` by the application', "reach nobody; `None` reaches everyone", ALL),
    "A29": Row("the same in MessagePack", "refused", frozenset({"MessagePack"})),
    # ── frames ───────────────────────────────────────────────────────────────────────────────────
    "B1": Row("fragments of one byte, by the million", "a message like any other, up to its limit: 1009", SOCKETS),
    "B2": Row("empty fragments by the million; a message that is never finished", "costs no more than it has", SOCKETS),
    "B3": Row("fragments of nothing, interleaved fragments", "1002", SOCKETS),
    "B4": Row("lengths of 2^63-1 and more, lengths not written the short way", "1009, 1002", SOCKETS),
    "B5": Row("a control frame over 125 bytes, or in fragments", "1002", SOCKETS),
    "B6": Row("reserved bits, unknown opcodes", "1002", SOCKETS),
    "B7": Row("text that is no UTF-8, whole, long, split, cut off", "1007", SOCKETS),
    "B8": Row("close codes that may not be sent, half a code, a reason that is no UTF-8", "1002, 1007", SOCKETS),
    "B9": Row("frames without a mask", "1002", SOCKETS),
    "B10": Row("data after the close frame", "is not looked at", SOCKETS),
    "B11": Row(
        "a compression bomb", "1002 where nothing was negotiated; else the limit counts what comes out", SOCKETS
    ),
    "B12": Row("a message over the limit, whole or in fragments", "1009", SOCKETS),
    "B13": Row(
        "pings without end, and a client that goes on after its end",
        "bounded (with `realtime serve`: uvicorn's own classes answer pings themselves, whoever reads); cut",
        SOCKETS,
    ),
    # ── handshakes and HTTP ──────────────────────────────────────────────────────────────────────
    "C1": Row(
        "an Origin that is missing, `null`, looks alike, is in capitals, is foreign and repeated by a proxy's header",
        "missing: let in; the others: 403",
        SERVED | {"plain"},
    ),
    "C2": Row("a bad Sec-WebSocket-Key, 10,000 times; a bad version", "400, 426", SOCKETS),
    "C3": Row("Sec-WebSocket-Protocol of 100 kB, or not ASCII", "refused or passed over", SOCKETS),
    "C4": Row("200 headers, or very long ones", "refused or passed over", SOCKETS | {"HTTP"}),
    "C5": Row(
        "header values with a vertical tab, form feed, NEL, NUL", "refused or left as they are", SOCKETS | {"HTTP"}
    ),
    "C6": Row(
        "half a request held open, one byte now and then", "ended; 408 where nothing was answered", frozenset({"HTTP"})
    ),
    "C7": Row(
        "a thousand handshakes at once from one address, where that is limited",
        "429; other addresses and this machine come in",
        SERVED | {"plain", "SSE"},
    ),
    "C8": Row("other methods, odd queries", "400, 405", frozenset({"HTTP"})),
    "C9": Row("paths that climb", "404, and nothing of the machine", frozenset({"HTTP"})),
    "C10": Row("a publication of 10 MB, or of wrong types", "413, 422", frozenset({"HTTP"})),
    "C11": Row("an idempotency key again, with another body", "409", frozenset({"HTTP"})),
    "C12": Row(
        "newlines in what an event stream says", "no line of the stream is anybody's but ours", frozenset({"SSE"})
    ),
    "C13": Row("Last-Event-ID that is wrong, huge, of another topic", "passed over", frozenset({"SSE"})),
    # ── names ────────────────────────────────────────────────────────────────────────────────────
    "D1": Row("a name that is empty or has 129 characters", "an error", DOORS),
    "D2": Row("a name with NUL, a newline, an escape sequence, blanks around it", "an error", DOORS),
    "D3": Row("a name with a right-to-left or an invisible character", "an error", DOORS),
    "D4": Row("a name with `*?[]:#{}$`, `..`, quotes, markup: patterns of anybody's", "a name of its own", DOORS),
    "D5": Row(
        "names that differ in case or in how they are composed", "rooms: two; users: one of a token holder", DOORS
    ),
    "D6": Row("a room named like somebody's sid", "nothing of theirs is heard in it", SERVED),
    "D7": Row("names that collide once joined by a separator", "two rooms; users have no colon", DOORS - {"HTTP"}),
    "D8": Row("a user called SYSTEM, rooms of the system", "an error", DOORS),
    # ── tokens ───────────────────────────────────────────────────────────────────────────────────
    "E1": Row("`alg: none`, another algorithm, a public key as secret, a key within the token", "refused", frozenset()),
    "E2": Row(
        "a `kid` that is a path, a query, no text; the same one at two issuers", "refused; two keys", frozenset()
    ),
    "E3": Row("wrong audience or issuer, expired, of the future, times that are none", "refused", frozenset()),
    "E4": Row("a token that ends while its holder is connected", "told, and ended", frozenset()),
    "E5": Row("tokens in logs", "never", frozenset()),
    # ── authorisation ────────────────────────────────────────────────────────────────────────────
    "F1": Row("somebody else's private room", "nobody's to enter or to read", frozenset()),
    "F2": Row("speaking in a room that one has not joined; publishing without the scope", "refused", frozenset()),
    "F3": Row("rights of one namespace used in another; a plain route as a way around", "refused", frozenset()),
    # ── bus ──────────────────────────────────────────────────────────────────────────────────────
    "G1": Row("a message too big, or of no form", "dropped and counted", frozenset()),
    "G2": Row("Redis refused, killed, frozen, empty again", "goes on alone, and comes back", frozenset()),
    # ── load ─────────────────────────────────────────────────────────────────────────────────────
    "H1": Row("a reader that stops reading while 100,000 messages go to its room", "cut when its backlog is full", ALL),
    "H2": Row("one client that joins 100,000 rooms", "an error for each over the limit", SERVED),
    "H3": Row(
        "10,000 presence keys (2,000 on polling, without `SOAK_SECONDS=600`)",
        "told rightly, and gone with their clients",
        SERVED,
    ),
    "H4": Row(
        "5,000 clients cut off and back at once (4,000 on polling; 500 and 200 in a run without `SOAK_SECONDS=600`)",
        "all let in, others served meanwhile",
        SERVED,
    ),
    "H5": Row(
        "what is said to 10,000, 100 of them dead (5,000 on the portable wire, 4,000 on polling; 500, 200 and 20 in a "
        "run without `SOAK_SECONDS=600`)",
        "each of the others hears it once",
        SERVED,
    ),
    "H6": Row("a handler that blocks the loop for 2 s", "measured and told; afterwards all is as before", SERVED),
    "H7": Row("pages of history that are negative, huge, of nowhere", "an error, or nothing", DOORS),
    "H8": Row(
        "no file descriptors left",
        "those connected are served; told and counted once; comes back",
        frozenset({"fast", "websocket"}),
    ),
    "H9": Row("events, packets and clients faster than anybody may", "an error, then closed with 4429", ALL),
    "H10": Row("a full inbox", "its client is not read; nobody else notices", ALL),
}
