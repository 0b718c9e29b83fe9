"""Whether the bus is there: asked now and then, told once."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from realtime import Metrics, Namespace, OutsideError, Server
from realtime.cluster.pulse import BusHooks, feel
from realtime.server.roster import BusManager
from tests.realtime.houses import Wire, until
from tests.realtime.living import settings_for

pytestmark = pytest.mark.asyncio


class FaultyWire(Wire):
    """``away``: it answers nothing but this."""

    away: Exception | None = None

    async def ping(self) -> None:
        if self.away is not None:
            raise self.away


@pytest.mark.parametrize("recovery", [None, False, True])
async def test_hooks_are_called_wherever_there_is_a_bus(recovery: bool | None) -> None:
    wire, told = FaultyWire([]), list[str]()
    server = Server(BusManager(wire, Metrics()), settings=settings_for(bus_patience_seconds=0.05))
    if recovery is not None:
        server.include(Namespace("/board", recovery=recovery))
    for name in ("bus_lost", "bus_regained"):
        server.bus_hooks.hooks[name].append(partial(told.append, name))
    wire.away = OutsideError("away")
    server._initialize()
    try:
        await until(lambda: told)
        assert told == ["bus_lost"]
        wire.away = None
        await until(lambda: len(told) == 2)
        assert told == ["bus_lost", "bus_regained"]
    finally:
        await server.shutdown()


async def test_what_is_shorter_than_the_patience_is_nothing(caplog: pytest.LogCaptureFixture) -> None:
    answers = iter([True, False, False, True, None, None, True])
    told: list[bool] = []
    over = asyncio.Event()

    async def ping() -> None:
        answer = next(answers, "over")
        if answer == "over":
            over.set()
        elif answer is None:
            raise ValueError("a defect of an adapter")
        elif not answer:
            raise OutsideError("away")

    feeling = asyncio.ensure_future(feel(ping, 3_600, told.append, every=0.001, again=0.001))
    await asyncio.wait_for(over.wait(), 5)
    feeling.cancel()
    assert set(told) == {False}
    assert caplog.text.count("the bus could not be asked") == 1


async def test_it_is_lost_until_everybody_has_it_back() -> None:
    bus, told = BusHooks(), list[str]()
    bus.hooks["bus_lost"].append(lambda: told.append("lost"))
    bus.hooks["bus_regained"].append(lambda: told.append("regained"))
    for who, lost in (("a", False), ("a", True), ("b", True), ("a", True), ("a", False), ("a", False), ("b", False)):
        bus.report(who, lost)
        told.append(f"{who} {lost}")
    assert told == ["a False", "lost", "a True", "b True", "a True", "a False", "a False", "regained", "b False"]
