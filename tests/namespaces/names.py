"""Names as hostile and unlucky clients send them (rooms, topics, users), and names that only look so."""

from __future__ import annotations

from typing import Final

BAD_NAMES: Final = {
    "empty": "",
    "too long": "x" * 129,
    "NUL": "a\x00b",
    "newline": "a\nb",
    "escape sequence": "\x1b[31mred",
    "right-to-left": "a\u202eb",
    "zero-width": "a\u200bb",
    "byte order mark": "\ufeffa",
    "line separator": "a\u2028b",
    "no-break space": "a\u00a0b",
    "begins with a space": " a",
    "ends with a space": "a ",
}
SYSTEM_ROOMS: Final = {
    "private": "@alice:bob",
    "of a guest": "@guest:bob",
    "of a user": "user:alice",
    "only the sign": "@",
    "only the prefix": "user:",
}
FINE_NAMES: Final = {
    "longest": "x" * 128,
    "glob": "*?[]{}$",
    "fragment": "#half",
    "dots": "..",
    "composed": "é",
    "decomposed": "e\u0301",
    "capital": "Lobby",
    "small": "lobby",
    "two words": "two words",
    "emoji": "\U0001f600",
    "like the bus": "a:b|c,d",
    "percent": "100%",
    "markup": "<img src=x>",
    "quote": "'; DROP TABLE messages; --",
}
BAD_USERS: Final = {**BAD_NAMES, "the system": "SYSTEM", "colon": "a:b", "not a string": 5, "a list": ["alice"]}
