from __future__ import annotations

import logging

import pytest

from realtime.errors import CloseCode
from realtime.metrics import Metrics
from realtime.names import UNHEARD, Reason
from realtime.session.endings import FAULTS, note_end, note_limit


@pytest.mark.parametrize("reason", Reason)
def test_every_end_is_counted_and_a_fault_of_the_client_is_one_line(
    reason: Reason, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics()
    with caplog.at_level(logging.INFO, "realtime"):
        note_end(metrics, "sid", CloseCode.TOO_FAST, "too many events", reason)
    assert metrics.ended.values == {(str(reason),): 1}
    told = [f"client sid was ended, {reason}: too many events"] if reason in FAULTS else []
    assert caplog.messages == told


class Client:
    id = "sid"
    noted: frozenset[str] = frozenset()


def test_a_limit_is_one_line_for_each_client(caplog: pytest.LogCaptureFixture) -> None:
    one, other = Client(), Client()
    with caplog.at_level(logging.INFO, "realtime"):
        for client in (one, one, other, other):
            for code in ("too_many_rooms", "rate_limited", "too_many_rooms"):
                note_limit(client, code)
    assert (
        caplog.messages
        == [
            "client sid is over a limit: too_many_rooms",
            "client sid is over a limit: rate_limited",
        ]
        * 2
    )


def test_a_close_without_words_is_told_by_its_code(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "realtime"):
        note_end(Metrics(), "sid", CloseCode.TOO_BIG, "", Reason.PROTOCOL)
    assert caplog.messages == ["client sid was ended, protocol error: too big"]


def test_whose_end_we_decided_is_not_heard_any_more() -> None:
    assert Reason.CLIENT not in UNHEARD
    assert not UNHEARD & FAULTS
