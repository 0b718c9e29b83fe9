from __future__ import annotations

from typing import Any

from realtime import Server
from realtime.journal.said import OffsetText, SplicedText
from realtime.metrics import Metrics
from realtime.recovery.keepers import Keepers, takes_offsets
from realtime.rooms.hub import Hub
from realtime.rooms.keeper import Keeper
from tests.realtime.living import settings_for


def scope(query: str) -> dict[str, Any]:
    return {"query_string": query.encode()}


def keepers() -> Keepers:
    return Keepers(Hub(Metrics()), settings_for(), Server(settings=settings_for())._dialect, None, lambda: 0.0)


def test_a_namespace_keeps_what_it_says_from_when_it_is_asked_to() -> None:
    made = keepers()
    assert (made.keeps("/"), made.newest("/"), made.is_for(scope("EIO=4&transport=websocket"), ())) == (
        False, None, False,
    )  # fmt: skip
    assert made.is_for(scope("EIO=4&transport=websocket"), ["/"])
    assert not made.is_for(scope("transport=websocket&EIO=4"), ())
    newest = made.newest("/")
    made.keep("/")
    assert newest is not None
    assert made.newest("/") == newest
    assert newest.endswith("-0")
    assert (type(made.dialect(True)), type(made.dialect(False))) == (OffsetText, SplicedText)


def test_or_another_keeps_it() -> None:
    made, asked = keepers(), []
    other = keepers()
    other.keep("/")

    def elsewhere(namespace: str) -> Keeper:
        asked.append(namespace)
        return other._hub.keepers["/"]

    made.elsewhere = elsewhere
    made.keep("/")
    made.keep("/")
    assert (asked, made._hub.keepers["/"]) == (["/"], other._hub.keepers["/"])


def test_the_query_says_who_takes_offsets() -> None:
    assert takes_offsets(scope(""))
    assert not takes_offsets(scope("recovery=0"))
