from __future__ import annotations

import asyncio
from typing import Any

import pytest

from benchmarks import torrent
from benchmarks.torrent import Probe, Torrent

pytestmark = pytest.mark.asyncio


class Person:
    """As much of a client as is looked at."""

    def __init__(self) -> None:
        self.listener: Any = None


def people(count: int) -> list[Any]:
    return [Person() for _ in range(count)]


async def test_everything_is_counted_and_the_pace_is_kept() -> None:
    publishers, audience = people(3), people(2)
    said: dict[Any, list[int]] = {publisher: [] for publisher in publishers}
    loop = asyncio.get_running_loop()

    def say(publisher: Any, number: int) -> None:
        said[publisher].append(number)
        for person in audience:
            loop.call_soon(person.listener.event, person, number)

    work = Torrent(publishers, say, audience, first=7)
    await work.pace(0.2, 500)
    assert 0 < work.sent <= 100
    assert sorted(number for numbers in said.values() for number in numbers) == list(range(7, 7 + work.sent))
    assert max(map(len, said.values())) - min(map(len, said.values())) <= 1, "in turn"
    assert (work.delivered, work.missing, work.repeated) == (2 * work.sent, 0, 0)
    assert len(work.latencies) == work.delivered
    assert 0.2 <= work.seconds < 5


async def test_so_many_are_on_their_way_and_no_more() -> None:
    audience = people(1)
    loop = asyncio.get_running_loop()
    under_way = most = 0

    def arrive(number: int) -> None:
        nonlocal under_way
        under_way -= 1
        audience[0].listener.event(audience[0], number)

    def say(publisher: Any, number: int) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        loop.call_later(0.001, arrive, number)

    work = Torrent(people(2), say, audience)
    await work.full(0.1, 8)
    assert most == 8
    assert work.sent > 16
    assert (work.missing, work.repeated) == (0, 0)


async def test_what_is_lost_and_what_comes_twice_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torrent, "GRACE_SECONDS", 0.05)
    audience = people(1)

    def say(publisher: Any, number: int) -> None:
        for _ in range({0: 0, 1: 2}.get(number, 1)):
            audience[0].listener.event(audience[0], number)

    work = Torrent(people(1), say, audience)
    await work.pace(0.1, 100)
    assert work.sent > 1
    assert (work.missing, work.repeated) == (1, 1)
    audience[0].listener.event(audience[0], 999_999)
    assert work.repeated == 1, "what we did not say is somebody else's"


async def test_a_probe_waits_until_everybody_hears(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torrent, "PROBE_SECONDS", 0.01)
    monkeypatch.setattr(torrent, "QUIET_SECONDS", 0.02)
    audience = people(2)

    def publish(number: int) -> None:
        for person in audience[: 1 if number < 3 else 2]:
            person.listener.event(person, number)

    assert await Probe(audience).run(publish) == 4
    monkeypatch.setattr(torrent, "PROBES", 5)
    with pytest.raises(TimeoutError, match="1 clients heard nothing of 5 messages"):
        await Probe(audience).run(lambda number: audience[0].listener.event(audience[0], number))
