from __future__ import annotations

import pytest

from realtime.access.identity import Identity
from realtime.recovery.absence import charged_to, user_key
from tests.realtime.coming_back import Place
from tests.realtime.living import SECONDS

pytestmark = pytest.mark.asyncio


async def test_a_flood_from_one_address_does_not_push_out_others() -> None:
    place = Place(recovery_limit_clients=4)
    place.server.returning.absence.address_of = lambda member: member.auth["user"][0]
    honest = [await place.guest(user=name) for name in ("a1", "b1")]
    for guest in honest:
        guest.cut()
    for number in range(10):
        (await place.guest(user=f"x{number}")).cut()
    assert [(await guest.come())["recovered"] for guest in honest] == [True, True]
    assert place.server.metrics.drops.value("record") == 8


async def test_whose_share_it_is() -> None:
    assert charged_to(Identity("a"), "192.0.2.1") == "user:a"
    assert charged_to(Identity("a", anonymous=True), "192.0.2.1") == "192.0.2.1"
    assert charged_to("a", "") == ""
    assert charged_to(None, "2001:db8:1:2:3::1") == charged_to(None, "2001:db8:1:2:ffff::2") == "2001:db8:1:2::/64"


async def test_time_is_over() -> None:
    place = Place(recovery_window_seconds=120)
    alice, bob = await place.guest(user="alice"), await place.guest(user="bob")
    await alice.say("remember", "colour", "red")
    alice.cut()
    place.clock.now += 60
    bob.cut()
    place.clock.now += 61
    place.server.returning.absence.sweep()
    await place.server.application.rest(SECONDS)
    assert place.hooks("expired") == [("alice", {"colour": "red"})]
    assert (await alice.come())["reason"] == "unknown"
    assert (await bob.come())["recovered"] is True


async def test_who_was_cut_off_together_is_not_ended_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realtime.recovery.absence.SWEEP", 2)
    place = Place()
    guests = [await place.guest(user=f"user{number}") for number in range(5)]
    for guest in guests:
        guest.cut()
    place.clock.now += 1_000
    left = []
    for _ in range(3):
        place.server.returning.absence.sweep()
        left.append(len(place.server.returning.absence.away))
    assert left == [3, 1, 0]


async def test_a_record_whose_time_is_over_is_not_taken_before_the_sweep_either() -> None:
    place = Place(recovery_window_seconds=120)
    alice = await place.guest(user="alice")
    alice.cut()
    place.clock.now += 121
    assert (await alice.come())["reason"] == "unknown"


async def test_the_first_to_leave_is_given_up_first() -> None:
    place = Place(recovery_limit_clients=2)
    guests = [await place.guest(user=name) for name in ("a", "b", "c")]
    for guest in guests:
        guest.cut()
    assert [(await guest.come())["recovered"] for guest in guests] == [False, True, True]
    assert place.server.metrics.drops.value("record") == 1


async def test_what_is_remembered_of_them_is_bounded_in_bytes() -> None:
    place = Place(recovery_limit_bytes=100_000)
    guests = [await place.guest(user=name) for name in ("a", "b", "c")]
    for guest in guests:
        await guest.say("remember", "much", "x" * 20_000)
        guest.cut()
    assert [(await guest.come())["recovered"] for guest in guests] == [False, True, True]
    assert place.server.metrics.drops.value("record") == 1


async def test_data_that_is_not_json_does_not_come_back() -> None:
    place = Place()
    alice = await place.guest(user="alice")
    place.chat.sockets()[0].data["socket"] = object()
    alice.cut()
    assert (await alice.come())["reason"] == "unknown"
    assert place.server.metrics.drops.value("record") == 1


async def test_and_the_log_says_so_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    place = Place()
    for name in ("a", "b", "c"):
        guest = await place.guest(user=name)
        place.chat.sockets()[0].data["socket"] = object()
        guest.cut()
    assert len([each for each in caplog.records if "cannot come back" in each.message]) == 1
    assert place.server.metrics.drops.value("record") == 3


async def test_users_are_the_same_or_not() -> None:
    assert user_key(None) == ""
    assert user_key(Identity("a", expires_at=1)) == user_key(Identity("a", expires_at=2)) != user_key("a")
    assert user_key(Identity("a", anonymous=True)) != user_key(Identity("a"))
    assert user_key({"id": 1}) == user_key({"id": 1}) != user_key({"id": 2})
    assert user_key(object()) is None
