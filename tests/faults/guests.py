"""Clients that come back: each wire's way to show who it was, to be told whether it has recovered, and to hear."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Protocol

import aiohttp

from tests.faults.history import Client, Heard, Leg
from tests.faults.lines import GONE, Line, PollingLine, StreamLine, WebSocketLine

LET_IN_SECONDS = 10.0
"""Whoever comes is let in or refused by then, also while the bus is away."""
ANSWER_SECONDS = 15.0
AGAIN_SECONDS = 0.5
"""After a room could not be entered, or a node not be reached."""


class Place(Protocol):
    """A node as its clients know it."""

    life: str
    url: str
    ws_url: str
    up: bool


@dataclass
class World:
    """What all clients of a run share."""

    nodes: list[Any]
    http: aiohttp.ClientSession
    chance: random.Random
    stock: Any = None
    """The process of the stock clients, where there is one."""
    answers: dict[str, tuple[str | None, bool]] = field(default_factory=dict)
    met: Counter[str] = field(default_factory=Counter)
    """What clients met that is no violation: refusals, errors, ends that they did not choose."""
    contradictions: list[str] = field(default_factory=list)
    """A pid that says otherwise than ``recovered``."""
    returns: Counter[str] = field(default_factory=Counter)
    """What those were told who came back."""
    waits: list[float] = field(default_factory=list)
    """Seconds from the opening of a connection until it was told that it is let in."""
    news: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, true: Callable[[], bool], seconds: float) -> bool:
        """False when it is not so in time."""
        try:
            async with asyncio.timeout(seconds):
                while not true():
                    self.news.clear()
                    await self.news.wait()
        except TimeoutError:
            return true()
        return True

    async def pause(self, seconds: float) -> None:
        """Or until everything is over."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.over.wait(), seconds)


class Guest:
    """One client through the whole run, in rooms of one namespace."""

    wire = ""

    def __init__(self, world: World, number: int, space: str, rooms: list[str], promised: bool) -> None:
        self.world = world
        self.name = f"{self.wire.split()[0]}{number}"
        self.space, self.rooms = space, rooms
        self.client = Client(self.name, self.wire, promised, tuple(f"{space}#{room}" for room in rooms))
        self.away = asyncio.Event()
        """Set: it stays away until it is cleared."""
        self.leg: Leg | None = None
        self.line: Line | None = None
        self._half_open: list[Line] = []
        self._reading: asyncio.Task[None] | None = None
        self._heard: set[str] = set()
        self._back = asyncio.Event()

    # --- coming and going

    async def live(self) -> None:
        """Come, hear, be cut off, come back, until the run is over."""
        world = self.world
        while not world.over.is_set():
            if self.away.is_set():
                self._back.clear()
                await self._back.wait()
                continue
            self._reading = asyncio.ensure_future(self._visit())
            await asyncio.wait({self._reading})
            self._reading = None
            patience = world.chance.uniform(0.01, 0.3) if world.chance.random() < 0.7 else world.chance.uniform(0.3, 3)
            if not self.away.is_set():
                await world.pause(patience)

    def stay_away(self) -> None:
        self.away.set()
        self.cut("cut")

    def come_back(self) -> None:
        self.away.clear()
        self._back.set()

    def leave(self) -> None:
        """The run is over; what it was told counts to here."""
        self._back.set()
        if self._reading is not None:
            self._reading.cancel()
        for line in (*self._half_open, *([self.line] if self.line is not None else [])):
            line.cut()

    def cut(self, how: str) -> None:
        """``cut``: without a word; ``silent``: it stays open, and nobody reads from it any more."""
        if self.leg is None or self.line is None or self._reading is None:
            return
        self.leg.ended = how
        if how == "silent":
            self._half_open.append(self.line)
            if len(self._half_open) > 3:
                self._half_open.pop(0).cut()
        else:
            self.line.cut()
        self._reading.cancel()

    async def _visit(self) -> None:
        node = self.world.chance.choice(self.world.nodes)
        if not node.up:
            node = next((each for each in self.world.nodes if each.up), node)
        leg = Leg(node.life, self.shows(), monotonic())
        try:
            line = await self.open(node)
        except GONE as error:
            self.world.met[f"{self.wire}: no connection ({type(error).__name__})"] += 1
            await self.world.pause(AGAIN_SECONDS)
            return
        self.leg, self.line = leg, line
        leg.since = monotonic()
        self.client.legs.append(leg)
        self.begin(leg)
        waiting = asyncio.get_running_loop().call_later(LET_IN_SECONDS, self._not_let_in, leg)
        try:
            async for frame in line.frames():
                self.take(leg, frame)
                if leg.ended is not None:
                    break
        except GONE as error:
            self.world.met[f"{self.wire}: {type(error).__name__}"] += leg.ended is None
            if not leg.opened:
                await self.world.pause(AGAIN_SECONDS)
        finally:
            waiting.cancel()
            if leg.ended is None and not self.world.over.is_set():
                leg.ended = f"by the server ({line.closed})"
                if node.up and node.life == leg.life:
                    self.world.met[f"{self.wire}: cut off by a node that lives ({line.closed})"] += 1
            if leg.ended != "silent" and not self.world.over.is_set():
                line.cut()
            self.gone()

    def _not_let_in(self, leg: Leg) -> None:
        if not leg.opened and leg is self.leg:
            self.world.met[f"{self.wire}: not let in within {LET_IN_SECONDS:g} s"] += 1
            self.cut("cut")

    # --- for each wire

    def shows(self) -> bool:
        """Has it something to show?"""
        raise NotImplementedError

    async def open(self, node: Place) -> Line:
        raise NotImplementedError

    def take(self, leg: Leg, frame: str) -> None:
        raise NotImplementedError

    def begin(self, leg: Leg) -> None:
        """It is connected."""

    def gone(self) -> None:
        """Its connection has ended."""

    # --- what it was told

    def opened(self, leg: Leg, verdict: bool | None, reason: str | None) -> None:
        leg.opened, leg.verdict, leg.reason = True, verdict, reason
        self.world.waits.append(monotonic() - leg.since)
        if leg.asked:
            self.world.returns["recovered" if verdict else f"not: {reason}"] += 1
        self.world.news.set()

    def in_room(self, leg: Leg, room: str) -> None:
        leg.joined[f"{self.space}#{room}"] = monotonic()
        self.world.news.set()

    def hear(self, leg: Leg, id: Any, place: str | None, early: bool = False) -> None:
        leg.heard.append(Heard(str(id), place, monotonic(), early))
        self._heard.add(str(id))
        self.world.news.set()

    def has(self, id: str) -> bool:
        return id in self._heard

    @property
    def is_here(self) -> bool:
        """Let in, and in all its rooms."""
        return self.leg is not None and self.leg.ended is None and self.leg.opened and not self.rooms_to_enter(self.leg)

    def rooms_to_enter(self, leg: Leg) -> list[str]:
        return [room for room in self.rooms if not self._is_in(leg, room)]

    def _is_in(self, leg: Leg, room: str) -> bool:
        """Also what it was in when it was cut off, if it has recovered."""
        name = f"{self.space}#{room}"
        for each in reversed(self.client.legs[: self.client.legs.index(leg) + 1]):
            if name in each.joined:
                return True
            if not (each.asked and (each.verdict or not each.opened)):
                return False
        return False


class SocketIOGuest(Guest):
    """As the stock JavaScript client does it: pid of the last CONNECT, and the last string at the end of an event."""

    def __init__(self, world: World, number: int, space: str, rooms: list[str], promised: bool) -> None:
        super().__init__(world, number, space, rooms, promised)
        self._pid: str | None = None
        self._offset: str | None = None
        self._before: list[str] = []
        self._asked: dict[int, Callable[[Any], None]] = {}
        self._number = 0

    def shows(self) -> bool:
        self._before.clear()
        return self._pid is not None

    @property
    def query(self) -> str:
        return f"/socket.io/?EIO=4&recovery={int(self.client.promised)}"

    def gone(self) -> None:
        asked, self._asked = self._asked, {}
        for answer in asked.values():
            answer(None)

    def take(self, leg: Leg, frame: str) -> None:
        head = f"{self.space},"
        if frame.startswith("0"):
            auth = {"pid": self._pid, **({"offset": self._offset} if self._offset is not None else {})}
            self.say(f"40{head}{json.dumps(auth) if self._pid is not None else ''}")
        elif frame == "2":
            self.say("3")
        elif frame.startswith(f"40{head}"):
            self._connected(leg, json.loads(frame[2 + len(head) :]))
        elif frame.startswith(f"42{head}"):
            if leg.opened:
                self._event(leg, frame[2 + len(head) :])
            else:
                self._before.append(frame[2 + len(head) :])
        elif frame.startswith(f"43{head}"):
            number, _, body = frame[2 + len(head) :].partition("[")
            answer = self._asked.pop(int(number), None)
            if answer is not None:
                answer(json.loads(f"[{body}")[0])
        elif frame.startswith((f"41{head}", f"44{head}")):
            leg.ended = f"by the server: {frame}"
            self.world.met[f"{self.wire}: {frame}"[:90]] += 1

    def _connected(self, leg: Leg, data: dict[str, Any]) -> None:
        if self._pid is not None and data.get("recovered") != (data.get("pid") == self._pid):
            self.world.contradictions.append(f"{self.name}: showed {self._pid}, was answered {data}")
        self._pid = data.get("pid")
        verdict = data.get("recovered") if leg.asked else None
        before, self._before = self._before, []
        for body in before:
            self._event(leg, body, early=verdict is not True)
        self.opened(leg, verdict, data.get("reason"))
        for room in self.rooms_to_enter(leg):
            self._enter(leg, room)

    def _event(self, leg: Leg, body: str, early: bool = False) -> None:
        _, data, *more = json.loads(body)
        offset = more[-1] if more and self._pid is not None else None
        if offset is not None:
            self._offset = offset
        self.hear(leg, data["id"], offset, early)

    def _enter(self, leg: Leg, room: str) -> None:
        if leg is not self.leg or leg.ended is not None:
            return

        def entered(answer: Any) -> None:
            if answer == room:
                self.in_room(leg, room)
            elif answer is not None:
                self.world.met[f"could not join: {answer}"[:90]] += 1
                asyncio.get_running_loop().call_later(AGAIN_SECONDS, self._enter, leg, room)

        self.ask("join", room, entered)

    def ask(self, event: str, data: Any, answer: Callable[[Any], None]) -> None:
        """``answer`` gets None when the connection ends before."""
        self._number += 1
        self._asked[self._number] = answer
        self.say(f"42{self.space},{self._number}{json.dumps([event, data])}")

    def say(self, text: str) -> None:
        if self.line is not None:
            _in_background(self.line.send(text))

    async def tell(self, room: str, id: str, volatile: bool) -> None:
        """Publish, and keep what was answered; returns when it was, or cannot be any more."""
        told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        what = {"room": room, "id": id, "publisher": self.name, "volatile": volatile}

        def answered(answer: Any) -> None:
            if not told.done():
                told.set_result(answer)

        self.ask("tell", what, answered)
        try:
            answer = await asyncio.wait_for(told, ANSWER_SECONDS)
        except TimeoutError:
            self.world.met[f"an emission not answered within {ANSWER_SECONDS:g} s"] += 1
            return
        if isinstance(answer, dict) and "error" not in answer:
            self.world.answers[id] = (answer["place"], answer["kept"])
        elif answer is not None:
            self.world.met[f"could not tell: {answer}"[:90]] += 1


class WebSocketGuest(SocketIOGuest):
    wire = "websocket"

    async def open(self, node: Place) -> Line:
        return await WebSocketLine.open(f"{node.ws_url}{self.query}&transport=websocket")


class PollingGuest(SocketIOGuest):
    wire = "polling"

    async def open(self, node: Place) -> Line:
        return PollingLine(self.world.http, f"{node.url}{self.query}")


class SinceGuest(Guest):
    """Shows the last offset it was given. It is in its one room when it is let in."""

    def __init__(self, world: World, number: int, space: str, rooms: list[str], promised: bool) -> None:
        super().__init__(world, number, space, rooms, promised)
        self._offset: str | None = None

    def shows(self) -> bool:
        return self.client.promised and self._offset is not None

    def told(self, leg: Leg, outcome: dict[str, Any]) -> None:
        """Whether it has recovered, after what it missed."""
        self.opened(leg, outcome["recovered"] if leg.asked else None, outcome.get("reason"))
        if self.rooms_to_enter(leg):
            self.in_room(leg, self.rooms[0])


class RawGuest(SinceGuest):
    wire = "raw"

    async def open(self, node: Place) -> Line:
        query = f"?since={self._offset or ''}" if self.client.promised else ""
        return await WebSocketLine.open(f"{node.ws_url}/ws/rooms{self.space}/{self.rooms[0]}{query}")

    def begin(self, leg: Leg) -> None:
        if not self.client.promised:  # then nothing more is said
            self.told(leg, {"recovered": None})

    def take(self, leg: Leg, frame: str) -> None:
        found = json.loads(frame)
        if self.client.promised:
            self._offset = found.get("offset", self._offset)
        if found.get("event") == "resumed":
            self.told(leg, found["data"])
        elif found.get("event") == "note":
            self.hear(leg, found["data"]["id"], found.get("offset"), not leg.opened)


class StreamGuest(SinceGuest):
    wire = "stream"

    async def open(self, node: Place) -> Line:
        headers = {"last-event-id": self._offset} if self._offset is not None and self.client.promised else {}
        return await StreamLine.open(self.world.http, f"{node.url}/events{self.space}/{self.rooms[0]}", headers)

    def take(self, leg: Leg, frame: str) -> None:
        found = json.loads(frame)
        self._offset = found.get("id", self._offset)
        if found.get("event") == "note":
            self.hear(leg, json.loads(found["data"])["id"], found.get("id"), not leg.opened)
        elif not leg.opened:
            self.told(leg, json.loads(found.get("data", '{"recovered": null}')))


_tasks: set[asyncio.Task[None]] = set()


def _in_background(work: Any) -> None:
    async def send() -> None:
        with suppress(*GONE, RuntimeError):  # the session is closed when all is over
            await work

    task = asyncio.ensure_future(send())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
