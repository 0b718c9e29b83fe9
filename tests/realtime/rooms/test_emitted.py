from __future__ import annotations

import pytest

from realtime import BusState, Emitted
from realtime.encoding.codecs import json_bytes


def test_it_is_the_number_of_those_reached() -> None:
    emitted = Emitted.made(3, BusState.UP, "e-7", due=True)
    assert emitted == 3
    assert json_bytes({"sent": emitted}) == b'{"sent":3}'
    assert (emitted.offset, emitted.bus, emitted.durable) == ("e-7", "up", True)
    assert "e-7" in repr(emitted)


@pytest.mark.parametrize(
    ("emitted", "durable"),
    [
        (Emitted(), None),
        (Emitted.made(1, BusState.AWAY), None),
        (Emitted.made(1, BusState.AWAY, due=True), False),
        (Emitted.made(0, BusState.NONE, "e-1", due=True), True),
    ],
)
def test_durable_is_said_only_of_what_was_to_be_kept(emitted: Emitted, durable: bool | None) -> None:
    assert emitted.durable is durable
