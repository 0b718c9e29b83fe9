"""Typed namespaces as a client sees them, over a wire in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, ClassVar

import pytest
import socketio
from fastapi import Depends, HTTPException
from pydantic import BaseModel

from realtime import AccessError, Fail, LimitError, Namespace, Server, Socket, UsageError, event
from realtime.testing import MemoryClient, Refused
from tests.realtime.living import SECONDS, settings_for, within


def server_with(*namespaces: Namespace, **changes: Any) -> Server:
    server = Server(settings=settings_for(**changes))
    for namespace in namespaces:
        server.include(namespace)
    return server


async def client_of(namespace: Namespace, **changes: Any) -> MemoryClient:
    client = MemoryClient(server_with(namespace, **changes))
    await client.connect(namespace.name)
    return client


class Say(BaseModel):
    text: str


class Saying(BaseModel):
    said: str


# ── answers ──────────────────────────────────────────────────────────────────────────────────────


class Talk(Namespace):
    path: ClassVar[str] = "/talk"

    @event
    async def say(self, data: Say) -> Saying:
        return Saying(said=data.text)

    @event("numbers:add")
    async def add(self, a: int, b: int = 1) -> int:
        return a + b

    @event
    async def nothing(self) -> None:
        return None

    @event
    def in_a_thread(self, socket: Socket) -> list[str]:
        return [socket.namespace]

    @event
    async def broken(self) -> None:
        raise TypeError("the secret detail")

    @event
    async def refuses(self) -> None:
        raise Fail("room_full", "This room is full", details={"max": 2}, retry_after=1.5)

    @event
    async def forbids(self) -> None:
        raise HTTPException(403, "Not for you")

    async def not_an_event(self) -> str:
        return "must never be reached by name"


@pytest.mark.parametrize(
    ("name", "args", "answer"),
    [
        ("say", [{"text": "hello"}], {"said": "hello"}),
        ("numbers:add", [2, 3], 5),
        ("numbers:add", [2], 3),
        ("nothing", [], None),
        ("in_a_thread", [], ["/talk"]),
    ],
)
@pytest.mark.asyncio
async def test_the_return_value_is_the_acknowledgement(name: str, args: list[Any], answer: Any) -> None:
    client = await client_of(Talk())
    assert await client.call("/talk", name, *args) == answer


@pytest.mark.asyncio
async def test_none_is_null() -> None:
    client = await client_of(Talk())
    client.emit("/talk", "nothing", id=7)
    while True:
        frame = await client.wire.next()
        if isinstance(frame, str) and frame.startswith("43"):
            assert frame == "43/talk,7[null]"
            return


@pytest.mark.parametrize(
    ("name", "args", "code"),
    [
        ("say", [{"text": 7}], "invalid_payload"),
        ("say", [], "invalid_payload"),
        ("say", [{"text": "a"}, 2], "invalid_payload"),
        ("numbers:add", ["x"], "invalid_payload"),
        ("broken", [], "internal"),
        ("refuses", [], "room_full"),
        ("forbids", [], "forbidden"),
        ("unheard", [], "unknown_event"),
        ("not_an_event", [], "unknown_event"),
        ("add", [1], "unknown_event"),
        ("__init__", [], "unknown_event"),
        ("authorize", [], "unknown_event"),
        ("emit", ["x"], "unknown_event"),
        ("error", [], "unknown_event"),
        ("__proto__", [], "unknown_event"),
    ],
)
@pytest.mark.asyncio
async def test_failures_are_the_error_object_with_and_without_an_acknowledgement(
    name: str, args: list[Any], code: str
) -> None:
    client = await client_of(Talk())
    answer = await client.call("/talk", name, *args)
    assert answer["error"]["code"] == code
    assert answer["error"]["message"]
    assert "secret" not in str(answer)
    client.emit("/talk", name, *args)
    told = await client.event("/talk", "error")
    assert told["error"]["code"] == code
    assert await client.call("/talk", "say", {"text": "still here"}) == {"said": "still here"}


@pytest.mark.asyncio
async def test_a_refusal_tells_all_it_has() -> None:
    client = await client_of(Talk())
    assert await client.call("/talk", "refuses") == {
        "error": {"code": "room_full", "message": "This room is full", "details": {"max": 2}, "retry_after": 1.5}
    }


# ── order ────────────────────────────────────────────────────────────────────────────────────────


class Gated(Namespace):
    path: ClassVar[str] = "/gated"

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.log: list[str] = []

    @event
    async def slow(self, name: str) -> None:
        self.log.append(f"{name} begins")
        await within(self.gate.wait())
        self.log.append(f"{name} ends")

    @event(concurrent=True)
    async def beside(self, name: str) -> None:
        self.log.append(name)


@pytest.mark.asyncio
async def test_events_of_one_client_run_one_at_a_time_in_order() -> None:
    gated = Gated()
    client = await client_of(gated)
    client.emit("/gated", "slow", "first")
    client.emit("/gated", "slow", "second")
    gated.gate.set()
    await client.call("/gated", "slow", "third")
    assert gated.log == [f"{name} {what}" for name in ("first", "second", "third") for what in ("begins", "ends")]


@pytest.mark.asyncio
async def test_an_event_of_another_client_does_not_wait() -> None:
    gated = Gated()
    server = server_with(gated)
    one, other = MemoryClient(server), MemoryClient(server)
    for each in (one, other):
        await each.connect("/gated")
    one.emit("/gated", "slow", "one")
    await other.call("/gated", "beside", "other")
    assert gated.log == ["one begins", "other"]
    gated.gate.set()


@pytest.mark.asyncio
async def test_a_concurrent_event_runs_beside_another_concurrent_one() -> None:
    begun, gate = asyncio.Event(), asyncio.Event()
    work = Namespace("/work")

    @work.event(concurrent=True)
    async def slow() -> str:
        begun.set()
        await within(gate.wait())
        return "slow"

    @work.event
    async def quick() -> str:
        return "quick"

    client = await client_of(work)
    client.emit("/work", "slow", id=1)
    await within(begun.wait())
    assert await client.call("/work", "quick") == "quick"
    gate.set()


# ── limits ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_a_limit_is_exact_in_any_stretch_of_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(Socket, "loop_time", lambda self: now)
    work = Namespace("/work")

    @work.event(limit="20/10s")
    async def ping() -> int:
        return 1

    @work.event
    async def other() -> int:
        return 1

    client = await client_of(work, events_per_second=1e6)
    allowed: list[float] = []
    for step in range(400):
        now = 1000.0 + step / 8  # exact in binary
        answer = await client.call("/work", "ping")
        if answer == 1:
            allowed.append(now)
        else:
            assert answer["error"]["code"] == "rate_limited"
            wait = answer["error"]["retry_after"]
            assert 0 < wait <= 10
    for first, twenty_first in zip(allowed, allowed[20:], strict=False):
        assert twenty_first - first >= 10
    assert len(allowed) == 100, "twenty in each ten seconds, no fewer"
    assert await client.call("/work", "other") == 1


@pytest.mark.asyncio
async def test_a_limit_is_counted_for_each_connection() -> None:
    work = Namespace("/work")

    @work.event(limit="1/h")
    async def once() -> int:
        return 1

    server = server_with(work)
    for _ in range(2):
        client = MemoryClient(server)
        await client.connect("/work")
        assert await client.call("/work", "once") == 1
        assert (await client.call("/work", "once"))["error"]["code"] == "rate_limited"


@pytest.mark.asyncio
async def test_events_per_second_hold_for_typed_namespaces() -> None:
    client = await client_of(Talk(), events_per_second=5)
    answers = [await client.call("/talk", "numbers:add", 1) for _ in range(8)]
    assert answers[:5] == [2] * 5
    assert answers[7]["error"]["code"] == "rate_limited"


# ── dependencies ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_dependencies_with_yield_and_overrides() -> None:
    log: list[str] = []

    async def session() -> AsyncIterator[str]:
        log.append("open")
        try:
            yield "real"
        except LookupError:
            log.append("saw it")
            raise
        finally:
            log.append("close")

    async def stand_in() -> str:
        return "stand-in"

    async def guard() -> None:
        log.append("guard")

    work = Namespace("/work", dependencies=[Depends(guard)])

    @work.event
    async def use(data: str, db: Annotated[str, Depends(session)]) -> str:
        log.append("handler")
        if data == "fail":
            raise LookupError
        return f"{data} {db}"

    server = server_with(work)
    client = MemoryClient(server)
    await client.connect("/work")
    assert await client.call("/work", "use", "with") == "with real"
    assert log == ["guard", "open", "handler", "close"]
    log.clear()
    assert (await client.call("/work", "use", "fail"))["error"]["code"] == "internal"
    assert log == ["guard", "open", "handler", "saw it", "close"]
    server.overrides = {session: stand_in}
    assert await client.call("/work", "use", "with") == "with stand-in"
    server.overrides = {}
    assert await client.call("/work", "use", "with") == "with real"


# ── the life of a client ─────────────────────────────────────────────────────────────────────────


class Club(Namespace):
    path: ClassVar[str] = "/club"

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Any] = []

    async def authorize(self, socket: Socket, auth: dict[str, str] | None = None) -> str:
        self.log.append("authorize")
        socket.enter("hall")
        await socket.emit("too early?", 1)
        name = (auth or {}).get("name", "")
        if name == "fail":
            raise Fail("no_shoes", "Put on shoes")
        if name == "access":
            raise AccessError("Members only", code="members_only")
        if name == "limit":
            raise LimitError("Full", retry_after=3)
        if name == "broken":
            raise RuntimeError("the secret detail")
        return name or "guest"

    async def connected(self, socket: Socket) -> None:
        self.log.append(("connected", socket.user, socket.connected))
        await socket.emit("welcome", {"name": socket.user})

    async def disconnected(self, socket: Socket, reason: str) -> None:
        self.log.append(("disconnected", reason, socket.rooms, socket.connected))

    async def may_join(self, room: str) -> None:
        if room == "cellar":
            raise AccessError("Not the cellar", code="no_cellar")

    async def joined(self, socket: Socket, room: str) -> None:
        self.log.append(("joined", room))

    async def left(self, room: str) -> None:
        self.log.append(("left", room))

    @event
    async def join(self, socket: Socket, room: str) -> None:
        await socket.join(room)

    @event
    async def leave(self, socket: Socket, room: str) -> None:
        await socket.leave(room)


@pytest.mark.asyncio
async def test_authorise_then_connect_then_greet() -> None:
    club = Club()
    server = server_with(club)
    client = MemoryClient(server)
    sid = await client.connect("/club", {"name": "ann"})
    assert await client.event("/club", "welcome") == {"name": "ann"}
    assert [name for _, (name, *_) in client.events] == ["too early?", "welcome"], "what authorise emits waits"
    assert club.log == ["authorize", ("connected", "ann", True)]
    assert server.hub.rooms_of(sid, "/club") == (sid, "hall")


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("fail", "no_shoes", "Put on shoes"),
        ("access", "members_only", "Members only"),
        ("limit", "rate_limited", "Full"),
        ("broken", "internal", "The server could not handle this"),
    ],
)
@pytest.mark.asyncio
async def test_a_refusal_has_words_and_a_code_and_leaves_no_trace(name: str, code: str, message: str) -> None:
    club = Club()
    server = server_with(club)
    client = MemoryClient(server)
    with pytest.raises(Refused) as caught:
        await client.connect("/club", {"name": name})
    assert caught.value.data["message"] == message
    assert caught.value.data["data"]["code"] == code
    assert "secret" not in str(caught.value.data)
    assert client.events == []
    assert server.hub.namespaces == {}
    assert server.hub._leaving == {}
    client.wire.cut()
    assert club.log == ["authorize"]


@pytest.mark.asyncio
async def test_a_payload_that_does_not_fit_is_a_refusal() -> None:
    client = MemoryClient(server_with(Club()))
    with pytest.raises(Refused) as caught:
        await client.connect("/club", {"name": 7})
    assert caught.value.data["data"]["code"] == "invalid_payload"


@pytest.mark.asyncio
async def test_an_event_sent_before_connect_was_answered_reaches_no_handler() -> None:
    reached: list[str] = []
    work = Namespace("/work")

    @work.hook("authorize")
    async def authorize(auth: Any = None) -> None:
        raise AccessError("no")

    @work.event
    async def secret() -> None:
        reached.append("secret")

    client = MemoryClient(server_with(work))
    client.send("0", "/work", None, "")
    client.emit("/work", "secret")
    assert (await client._until("/work", "0", "4"))[0] == "4"
    with pytest.raises(Refused):  # asked again, and answered after whatever was said before
        await client.connect("/work")
    assert reached == []


@pytest.mark.asyncio
async def test_a_client_that_leaves_while_it_is_authorised_was_never_there() -> None:
    begun, gate, done = asyncio.Event(), asyncio.Event(), asyncio.Event()
    log: list[str] = []
    work = Namespace("/work")

    @work.hook("authorize")
    async def authorize(socket: Socket) -> None:
        begun.set()
        await within(gate.wait())
        socket.enter("room")
        await socket.join("another")
        done.set()

    @work.hook("connected")
    async def connected() -> None:
        log.append("connected")

    @work.hook("disconnected")
    async def disconnected() -> None:
        log.append("disconnected")

    @work.hook("joined")
    async def joined(room: str) -> None:
        log.append(room)

    server = server_with(work)
    client = MemoryClient(server)
    client.send("0", "/work", None, "")
    await within(begun.wait())
    client.wire.cut()
    gate.set()
    await within(done.wait())
    await within(server.application.rest(SECONDS))
    assert log == []
    assert server.hub.namespaces == {}


@pytest.mark.asyncio
async def test_disconnected_runs_once_and_knows_the_rooms() -> None:
    club = Club()
    server = server_with(club)
    client = MemoryClient(server)
    await client.connect("/club")
    await client.call("/club", "join", "lobby")
    club.log.clear()
    client.disconnect("/club")
    client.wire.cut()
    await within(server.application.rest(SECONDS))
    assert club.log == [("disconnected", "client disconnect", ("hall", "lobby"), False)]
    assert server.hub._leaving == {}


@pytest.mark.asyncio
async def test_rooms_that_a_client_names() -> None:
    club = Club()
    server = server_with(club, rooms_per_connection=3)
    client, other = MemoryClient(server), MemoryClient(server)
    sid = await client.connect("/club")
    other_sid = await other.connect("/club")
    club.log.clear()
    refused = {
        "cellar": "no_cellar",
        "@guest:ann": "system_room",
        "user:ann": "system_room",
        "": "invalid_payload",
        "a" * 129: "invalid_payload",
        "with\nnewline": "invalid_payload",
        other_sid: "system_room",
    }
    for room, code in refused.items():
        assert (await client.call("/club", "join", room))["error"]["code"] == code, room
    assert club.log == []
    assert await client.call("/club", "join", "one") is None
    assert await client.call("/club", "join", "one") is None
    assert await client.call("/club", "join", sid) is None, "its own room it is in already"
    assert await client.call("/club", "join", "two") is None
    assert (await client.call("/club", "join", "three"))["error"]["code"] == "too_many_rooms"
    assert await client.call("/club", "leave", "one") is None
    assert await client.call("/club", "leave", "one") is None
    assert (await client.call("/club", "leave", "user:ann"))["error"]["code"] == "system_room"
    assert club.log == [("joined", "one"), ("joined", "two"), ("left", "one")]


# ── saying ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_a_namespace_emits_models_to_rooms_and_counts() -> None:
    work = Namespace("/work")
    server = server_with(work)
    one, other = MemoryClient(server), MemoryClient(server)
    sid = await one.connect("/work")
    await other.connect("/work")
    assert await work.emit(Saying(said="hello")) == 2
    assert await work.emit("told", {"n": 1}, skip=sid) == 1
    assert await work.emit("told", {"n": 2}, to=sid) == 1
    assert await work.emit("told", {"n": 3}, to=[]) == 0
    assert await one.event("/work", "saying") == {"said": "hello"}
    assert await one.event("/work", "told") == {"n": 2}
    assert await other.event("/work", "saying") == {"said": "hello"}
    assert await other.event("/work", "told") == {"n": 1}
    assert [socket.sid for socket in work.sockets(sid)] == [sid]
    assert len(work.sockets()) == 2


# ── mistakes of the author ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["", "chat", "/a,b", "/a?b", "/" + "a" * 128])
def test_a_bad_path_is_an_error_at_once(path: str) -> None:
    with pytest.raises(UsageError, match="a namespace begins with /"):
        Namespace(path)


@pytest.mark.parametrize("name", ["connect", "disconnect", "connect_error", "*", "a" * 129])
def test_a_reserved_event_is_an_error_at_once(name: str) -> None:
    async def handler() -> None: ...

    with pytest.raises(UsageError, match="reserved or too long"):
        Namespace("/x").event(name)(handler)


def test_two_handlers_of_one_event_are_an_error() -> None:
    async def handler() -> None: ...

    namespace = Namespace("/x")
    namespace.event("one")(handler)
    with pytest.raises(UsageError, match="has a handler already"):
        namespace.event("one")(handler)


@pytest.mark.parametrize("limit", ["twenty", "0/s", "20/0s", "20"])
def test_a_limit_that_cannot_be_read_is_an_error_at_once(limit: str) -> None:
    async def handler() -> None: ...

    with pytest.raises(UsageError, match="A rate is written like"):
        Namespace("/x").event("one", limit=limit)(handler)


def test_a_hook_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(UsageError, match="a hook is one of authorize"):
        Namespace("/x").hook("connect")


def test_an_event_may_not_hide_a_method_of_namespace() -> None:
    class Hiding(Namespace):
        path: ClassVar[str] = "/hiding"

        @event
        async def find(self) -> None:  # type: ignore[override]
            ...

    with pytest.raises(UsageError, match="'find' is a method of Namespace"):
        Hiding()


def test_a_namespace_lives_in_one_server() -> None:
    namespace = Namespace("/x")
    with pytest.raises(UsageError, match="not included in a server yet"):
        _ = namespace.home
    server_with(namespace)
    with pytest.raises(UsageError, match="in another server already"):
        server_with(namespace)


def test_a_name_is_served_once() -> None:
    server = server_with(Namespace("/x"))
    with pytest.raises(UsageError, match="has handlers already"):
        server.include(Namespace("/x"))
    with pytest.raises(UsageError, match="/x is a typed namespace"):
        server.on("told", lambda sid: None, namespace="/x")
    with pytest.raises(UsageError, match="/x is a typed namespace"):
        server.register_namespace(socketio.AsyncNamespace("/x"))
    server.on("told", lambda sid: None, namespace="/y")
    with pytest.raises(UsageError, match="has handlers already"):
        server.include(Namespace("/y"))
