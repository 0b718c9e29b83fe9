from __future__ import annotations

import asyncio
import base64
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import partial
from typing import Annotated, Any, Generic, TypeVar

import pytest
from fastapi import (
    BackgroundTasks,
    Body,
    Cookie,
    Depends,
    Header,
    HTTPException,
    Path,
    Query,
    Request,
    Response,
    Security,
    WebSocket,
    WebSocketException,
)
from fastapi.security import (
    APIKeyCookie,
    APIKeyHeader,
    APIKeyQuery,
    HTTPAuthorizationCredentials,
    HTTPBasic,
    HTTPBasicCredentials,
    HTTPBearer,
    OAuth2PasswordBearer,
    SecurityScopes,
)
from pydantic import BaseModel, Field
from starlette.requests import HTTPConnection

from realtime.errors import AccessError, PayloadError, Refusal, UsageError
from realtime.typed.resolve import Call, Plan, compile_plan, per_connection

T = TypeVar("T")


class Socket(Generic[T]):
    sid = "s1"


class Room:
    name = "/chat"


class Lobby(Room): ...


class Say(BaseModel):
    room: str
    text: str


class Unknown: ...


CONNECTION = HTTPConnection(
    {
        "type": "websocket",
        "query_string": b"user=ana&tag=a&tag=b&limit=5&key=q",
        "headers": [
            (b"authorization", b"Bearer t0ken"),
            (b"x-api-key", b"h"),
            (b"accept-language", b"en"),
            (b"cookie", b"session=c"),
        ],
    }
)
ANONYMOUS = HTTPConnection({"type": "websocket", "query_string": b"", "headers": []})
SOCKET: Socket[str] = Socket()
LOBBY = Lobby()


def planned(handler: Callable[..., Any], **options: Any) -> Plan:
    return compile_plan(handler, injectables=(Socket, Room), **options)


async def run(
    handler: Callable[..., Any] | Plan,
    *args: Any,
    connection: HTTPConnection = CONNECTION,
    overrides: Mapping[Callable[..., Any], Callable[..., Any]] | None = None,
    cache: dict[Any, Any] | None = None,
) -> Any:
    plan = handler if isinstance(handler, Plan) else planned(handler)
    call = Call(args, connection, {Socket: SOCKET, Room: LOBBY}, overrides or {}, {} if cache is None else cache)
    return await asyncio.wait_for(plan.run(call), 5)


async def username(conn: HTTPConnection) -> str:
    return conn.query_params.get("user", "guest")


User = Annotated[str, Depends(username)]

# --- the handler's own parameters


@pytest.mark.asyncio
async def test_a_handler_is_written_like_a_route() -> None:
    async def say(msg: Say, socket: Socket[str], user: User, *, room: Room) -> dict[str, Any]:
        return {"msg": msg, "sid": socket.sid, "user": user, "room": room.name}

    plan = planned(say)
    assert [(each.name, each.annotation, each.required) for each in plan.arguments] == [("msg", Say, True)]
    assert plan.returns == dict[str, Any]
    found = await run(plan, {"room": "a", "text": "hi"})
    assert found == {"msg": Say(room="a", text="hi"), "sid": "s1", "user": "ana", "room": "/chat"}


@pytest.mark.asyncio
async def test_everything_else_is_payload_in_the_order_of_the_signature() -> None:
    async def handler(first: int, user: User, second=None, *rest: float) -> tuple[Any, ...]:  # type: ignore[no-untyped-def]
        return first, user, second, rest

    assert await run(handler, "1") == (1, "ana", None, ())
    assert await run(handler, 1, {"any": "thing"}, 2, "3.5") == (1, "ana", {"any": "thing"}, (2.0, 3.5))


@pytest.mark.asyncio
async def test_payload_after_a_star_is_sent_by_position_as_well() -> None:
    async def handler(*, user: str = Depends(username), room: str, limit: int = Field(50, le=200)) -> Any:
        return user, room, limit

    plan = planned(handler)
    assert [(each.name, each.required, each.default) for each in plan.arguments][1] == ("limit", False, 50)
    assert await run(plan, "a") == ("ana", "a", 50)
    assert await run(plan, "a", 100) == ("ana", "a", 100)
    with pytest.raises(PayloadError, match="limit"):
        await run(plan, "a", 201)


@pytest.mark.asyncio
async def test_a_bad_payload_is_told_in_the_words_of_the_contract() -> None:
    async def say(msg: Say) -> None: ...

    with pytest.raises(PayloadError) as caught:
        await run(say, {"room": "a"})
    assert caught.value.as_dict() == {
        "code": "invalid_payload",
        "message": "msg.text: Field required",
        "details": [{"loc": ["msg", "text"], "message": "Field required", "type": "missing"}],
    }


@pytest.mark.asyncio
async def test_who_may_not_is_told_before_what_is_wrong() -> None:
    async def nobody() -> None:
        raise HTTPException(401)

    async def say(msg: Say, lang: Annotated[str, Header()], _: Annotated[None, Depends(nobody)]) -> None: ...

    with pytest.raises(AccessError):
        await run(say, "rubbish", connection=ANONYMOUS)


@pytest.mark.asyncio
async def test_a_result_without_annotation_is_passed_on() -> None:
    async def say(text):  # type: ignore[no-untyped-def]
        return Say(room="a", text=text)

    plan = planned(say)
    assert plan.returns is inspect.Signature.empty
    assert await run(plan, "b") == Say(room="a", text="b")


@pytest.mark.asyncio
async def test_the_result_is_checked_and_made_json_ready_unless_it_stays_here() -> None:
    async def say() -> Say:
        return {"room": "a", "text": "b", "secret": "c"}  # type: ignore[return-value]

    assert await run(say) == {"room": "a", "text": "b"}
    assert (await run(planned(say, json_ready=False)))["secret"] == "c"


@pytest.mark.asyncio
async def test_a_plain_function_runs_in_a_thread() -> None:
    def ident() -> int:
        return threading.get_ident()

    def handler(text: str, ident: Annotated[int, Depends(ident)]) -> Any:
        return text, ident, threading.get_ident()

    def thread(limiter: str, function: str) -> int:
        return threading.get_ident()

    text, dependency, here = await run(handler, "x")
    assert text == "x"
    assert threading.get_ident() not in (dependency, here)
    assert await run(thread, "names", "of ours") != threading.get_ident()


@pytest.mark.asyncio
async def test_partials_methods_and_callable_objects_are_handlers() -> None:
    class Chat:
        async def say(self, text: str, user: User) -> Any:
            return self, text, user

        async def __call__(self, text: str) -> str:
            return text

    chat = Chat()
    assert await run(chat.say, "x") == (chat, "x", "ana")
    assert await run(chat, "x") == "x"
    assert await run(partial(chat.say, "fixed")) == (chat, "fixed", "ana")
    plan = planned(Chat.say, skip_first=True)
    assert await run(plan.bind(chat), "x") == (chat, "x", "ana")
    assert await run(plan.bind(chat), "x", overrides={username: lambda: "bob"}) == (chat, "x", "bob")


@pytest.mark.asyncio
async def test_injectables_are_found_by_their_class_its_subclasses_and_its_bases() -> None:
    async def handler(exact: Room, derived: Lobby) -> Any:
        return exact, derived

    assert await run(handler) == (LOBBY, LOBBY)
    plan = compile_plan(handler, injectables=(Lobby,))
    assert await plan.run(Call((), CONNECTION, {Lobby: LOBBY})) == (LOBBY, LOBBY)
    plan = planned(handler)
    with pytest.raises(UsageError, match=r"expects .*Lobby; this event has .*Room"):
        await plan.run(Call((), CONNECTION, {Room: Room()}))


@pytest.mark.asyncio
async def test_a_handler_without_payload_ignores_what_comes() -> None:
    async def greet(user: User) -> str:
        return user

    assert await run(planned(greet, takes_payload=False), "anything") == "ana"


# --- dependencies


@pytest.mark.asyncio
async def test_dependencies_may_be_anything_that_can_be_called() -> None:
    class Pages:
        def __init__(self, limit: int = 10) -> None:
            self.limit, self.thread = limit, threading.get_ident()

    class Greeter:
        def __init__(self, word: str) -> None:
            self.word = word

        async def __call__(self, user: User) -> str:
            return f"{self.word} {user}"

    async def part(word: str, user: User) -> str:
        return f"{word} {user}"

    async def handler(
        pages: Annotated[Pages, Depends()],
        again: Pages = Depends(),
        greeting: str = Depends(Greeter("hello")),
        farewell: str = Depends(partial(part, "bye")),
    ) -> Any:
        return pages, again, greeting, farewell

    pages, again, greeting, farewell = await run(handler)
    assert pages is again
    assert (pages.limit, pages.thread) == (5, threading.get_ident())
    assert (greeting, farewell) == ("hello ana", "bye ana")


@pytest.mark.asyncio
async def test_a_dependency_runs_once_an_event_unless_it_wants_otherwise() -> None:
    count = 0

    async def counted() -> int:
        nonlocal count
        count += 1
        return count

    async def above(n: Annotated[int, Depends(counted)]) -> int:
        return n

    async def handler(
        a: Annotated[int, Depends(counted)],
        b: Annotated[int, Depends(above)],
        c: Annotated[int, Depends(counted, use_cache=False)],
    ) -> Any:
        return a, b, c

    plan = planned(handler)
    assert await run(plan) == (1, 1, 2)
    assert await run(plan) == (3, 3, 4)


@pytest.mark.asyncio
async def test_the_dependencies_of_a_namespace_run_first() -> None:
    log: list[str] = []

    async def gate() -> None:
        log.append("gate")

    async def own() -> None:
        log.append("own")

    async def handler(_: Annotated[None, Depends(own)]) -> None: ...

    await run(planned(handler, dependencies=[Depends(gate)]))
    assert log == ["gate", "own"]


@pytest.mark.asyncio
async def test_values_of_the_handshake_are_parameters() -> None:
    async def reading(
        user: str,
        limit: int,
        tag: Annotated[list[str], Query()],
        accept_language: Annotated[str, Header()],
        session: Annotated[str, Cookie()],
        key: str = Header(alias="x-api-key"),
        raw_name: Annotated[str, Header(convert_underscores=False)] = "none",
        missing: int | None = None,
        fresh: list[str] = Query(default_factory=list),
    ) -> Any:
        return user, limit, tag, accept_language, session, key, raw_name, missing, fresh

    async def handler(values: Annotated[Any, Depends(reading)], lang: str = Header(alias="Accept-Language")) -> Any:
        return (*values, lang)

    plan = planned(handler)
    assert plan.arguments == ()
    assert await run(plan) == ("ana", 5, ["a", "b"], "en", "c", "h", "none", None, [], "en")


@pytest.mark.asyncio
@pytest.mark.parametrize(("query", "kind"), [(b"", "missing"), (b"limit=x", "int_parsing"), (b"limit=9", None)])
async def test_a_bad_value_of_the_handshake_is_named(query: bytes, kind: str | None) -> None:
    async def page(limit: Annotated[int, Query(ge=1, le=10)]) -> int:
        return limit

    async def handler(limit: Annotated[int, Depends(page)]) -> int:
        return limit

    connection = HTTPConnection({"type": "http", "query_string": query, "headers": []})
    if kind is None:
        assert await run(handler, connection=connection) == 9
        return
    with pytest.raises(PayloadError) as caught:
        await run(handler, connection=connection)
    assert [(each["loc"], each["type"]) for each in caught.value.details] == [(["query", "limit"], kind)]


# --- clean-up


class Log(list[str]):
    def opened(self, name: str, *, fail: bool = False) -> Callable[[], AsyncIterator[str]]:
        async def dependency() -> AsyncIterator[str]:
            self.append(f"open {name}")
            try:
                yield name
            except BaseException as error:
                self.append(f"{name} saw {type(error).__name__}")
                raise
            finally:
                self.append(f"close {name}")
                if fail:
                    raise HTTPException(409, "Conflict at commit")

        return dependency

    def opened_in_thread(self, name: str) -> Callable[[], Iterator[str]]:
        def dependency() -> Iterator[str]:
            self.append(f"open {name}")
            try:
                yield name
            finally:
                self.append(f"close {name}")

        return dependency


@pytest.mark.asyncio
async def test_clean_up_is_done_when_the_result_is_there() -> None:
    log = Log()

    async def handler(
        a: str = Depends(log.opened("a")),
        b: str = Depends(log.opened_in_thread("b")),
        c: str = Depends(log.opened("c")),
    ) -> str:
        log.append("handler")
        return a + b + c

    assert await run(handler) == "abc"
    assert log == ["open a", "open b", "open c", "handler", "close c", "close b", "close a"]


@pytest.mark.asyncio
async def test_clean_up_sees_what_the_handler_raised_in_fastapi_s_words() -> None:
    log = Log()

    async def handler(a: str = Depends(log.opened("a"))) -> None:
        raise HTTPException(404, "No such room")

    with pytest.raises(Refusal, match="No such room") as caught:
        await run(handler)
    assert caught.value.code == "http_404"
    assert log == ["open a", "a saw HTTPException", "close a"]


@pytest.mark.asyncio
async def test_clean_up_sees_a_bad_payload_and_a_bad_result() -> None:
    log = Log()

    async def handler(n: int, a: str = Depends(log.opened("a"))) -> int:
        return "x"  # type: ignore[return-value]

    with pytest.raises(PayloadError):
        await run(handler, "x")
    with pytest.raises(UsageError, match="does not fit its annotation"):
        await run(handler, 1)
    assert log == ["open a", "a saw PayloadError", "close a", "open a", "a saw UsageError", "close a"]


@pytest.mark.asyncio
async def test_a_clean_up_that_fails_fails_the_event() -> None:
    log = Log()

    async def handler(a: str = Depends(log.opened("a")), b: str = Depends(log.opened("b", fail=True))) -> str:
        return "done"

    with pytest.raises(Refusal, match="Conflict at commit"):
        await run(handler)
    assert log == ["open a", "open b", "close b", "a saw HTTPException", "close a"]


@pytest.mark.asyncio
async def test_a_dependency_that_fails_cleans_up_those_before_it() -> None:
    log = Log()

    async def fails() -> None:
        raise KeyError("x")

    async def handler(a: str = Depends(log.opened("a")), b: None = Depends(fails)) -> None:
        log.append("handler")

    with pytest.raises(KeyError):
        await run(handler)
    assert log == ["open a", "a saw KeyError", "close a"]


@pytest.mark.asyncio
async def test_a_cancelled_event_cleans_up_after_its_thread_has_ended() -> None:
    log, loop = Log(), asyncio.get_running_loop()
    started, release = asyncio.Event(), threading.Event()

    def handler(a: str = Depends(log.opened("a"))) -> None:
        loop.call_soon_threadsafe(started.set)
        assert release.wait(5)
        log.append("handler ended")

    task = asyncio.create_task(run(handler))
    await asyncio.wait_for(started.wait(), 5)
    task.cancel()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    assert log == ["open a", "handler ended", "a saw CancelledError", "close a"]


# --- FastAPI's security classes, scopes and exceptions


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("scheme", "found"),
    [
        (OAuth2PasswordBearer("token"), "t0ken"),
        (HTTPBearer(), HTTPAuthorizationCredentials(scheme="Bearer", credentials="t0ken")),
        (APIKeyHeader(name="x-api-key"), "h"),
        (APIKeyQuery(name="key"), "q"),
        (APIKeyCookie(name="session"), "c"),
    ],
)
async def test_security_classes_run_over_the_handshake(scheme: Any, found: Any) -> None:
    async def handler(credentials: Annotated[Any, Depends(scheme)]) -> Any:
        return credentials

    assert await run(handler) == found
    with pytest.raises(AccessError) as caught:
        await run(handler, connection=ANONYMOUS)
    assert caught.value.as_dict() == {"code": "unauthorized", "message": "Not authenticated"}


@pytest.mark.asyncio
async def test_basic_credentials_are_read() -> None:
    async def handler(credentials: Annotated[HTTPBasicCredentials, Security(HTTPBasic())]) -> str:
        return credentials.username

    header = b"Basic " + base64.b64encode(b"ana:secret")
    connection = HTTPConnection({"type": "http", "query_string": b"", "headers": [(b"authorization", header)]})
    assert await run(handler, connection=connection) == "ana"


@pytest.mark.asyncio
async def test_scopes_add_up_on_the_way_down_and_part_the_cache() -> None:
    sessions: list[int] = []

    async def session() -> int:
        sessions.append(1)
        return len(sessions)

    async def current(scopes: SecurityScopes, _: Annotated[int, Depends(session)]) -> str:
        return scopes.scope_str

    async def admin(user: Annotated[str, Security(current, scopes=["admin", "me"])]) -> str:
        return user

    async def handler(
        plain: Annotated[str, Depends(current)],
        high: Annotated[str, Security(admin, scopes=["me", "items"])],
        own: SecurityScopes,
    ) -> Any:
        return plain, high, own.scopes

    assert await run(handler) == ("", "me items admin", [])
    assert len(sessions) == 1, "what does not look at scopes is shared"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("error", "code"),
    [(HTTPException(403, "Not you"), "forbidden"), (WebSocketException(1008, "Not you"), "forbidden")],
)
async def test_what_a_dependency_raises_becomes_ours(error: Exception, code: str) -> None:
    async def gate() -> None:
        raise error

    async def handler(text: str, _: Annotated[None, Depends(gate)]) -> None: ...

    with pytest.raises(AccessError, match="Not you") as caught:
        await run(handler, "x")
    assert caught.value.code == code
    assert caught.value.__cause__ is error


# --- overrides


@pytest.mark.asyncio
async def test_an_override_takes_the_place_of_a_dependency_wherever_it_is() -> None:
    async def greeting(user: User) -> str:
        return f"hello {user}"

    async def handler(direct: User, greeting: Annotated[str, Depends(greeting)]) -> Any:
        return direct, greeting

    plan = planned(handler)
    overrides: dict[Callable[..., Any], Callable[..., Any]] = {username: lambda: "bob", len: print}
    assert await run(plan, overrides=overrides) == ("bob", "hello bob")
    assert await run(plan) == ("ana", "hello ana")

    async def other(user: User, lang: Annotated[str, Header(alias="accept-language")]) -> AsyncIterator[str]:
        yield f"{lang} {user}"

    overrides[greeting] = other
    assert await run(plan, overrides=overrides) == ("bob", "en bob")


@pytest.mark.asyncio
async def test_the_dependencies_of_a_namespace_are_overridden_too() -> None:
    async def gate() -> None:
        raise HTTPException(403)

    async def handler() -> str:
        return "in"

    plan = planned(handler, dependencies=[Depends(gate)])
    with pytest.raises(AccessError):
        await run(plan)
    assert await run(plan, overrides={gate: lambda: None}) == "in"


@pytest.mark.asyncio
async def test_a_wrong_override_is_a_usage_error_when_it_is_met() -> None:
    async def wrong(request: Request) -> str:
        return "x"

    async def handler(user: User) -> str:
        return user

    with pytest.raises(UsageError, match="HTTPConnection"):
        await run(handler, overrides={username: wrong})


# --- values of the connection


@pytest.mark.asyncio
async def test_a_value_of_the_connection_is_computed_once() -> None:
    computed: list[str] = []

    async def token(conn: HTTPConnection) -> str:
        return conn.headers["authorization"]

    @per_connection
    async def user(token: Annotated[str, Depends(token)]) -> str:
        computed.append(token)
        return f"user of {token}"

    async def handler(user: Annotated[str, Depends(user)]) -> str:
        return user

    plan, cache = planned(handler), dict[Any, Any]()
    for _ in range(2):
        assert await run(plan, cache=cache) == "user of Bearer t0ken"
    assert len(computed) == 1
    assert await run(plan) == "user of Bearer t0ken", "another connection"
    assert len(computed) == 2
    assert await run(plan, cache=cache, overrides={user: lambda: "fake"}) == "fake"
    assert await run(plan, cache=cache, overrides={token: lambda: "x"}) == "user of x"
    assert await run(plan, cache=cache) == "user of Bearer t0ken"
    assert len(computed) == 3


def test_what_cannot_be_kept_for_the_connection_is_refused() -> None:
    @per_connection
    async def yields() -> AsyncIterator[int]:
        yield 1

    async def handler(n: Annotated[int, Depends(yields)]) -> None: ...

    class Users:
        async def find(self) -> None: ...

    with pytest.raises(UsageError, match="no yield in a dependency marked with per_connection; came async def with"):
        planned(handler)
    for unmarkable in (Users().find, dict):
        with pytest.raises(UsageError, match=r"per_connection: .* that can be marked"):
            per_connection(unmarkable)


# --- wrong signatures


def yields() -> Iterator[int]:
    yield 1


def wants_request(conn: Request) -> None: ...


def wants_model(msg: Say) -> None: ...


def wants_rest(*args: int) -> None: ...


def wants_query_model(page: Annotated[Say | None, Query()] = None) -> None: ...


def wants_unknown(db: Unknown) -> None: ...


async def circular(again: Annotated[int, Depends(lambda: 1)]) -> None: ...


circular.__annotations__["again"] = Annotated[int, Depends(circular)]


class Unhashable:
    __hash__ = None  # type: ignore[assignment]

    async def __call__(self) -> None: ...


async def request(r: Request) -> None: ...
async def websocket(ws: WebSocket) -> None: ...
async def response(r: Response) -> None: ...
async def tasks(tasks: BackgroundTasks) -> None: ...
async def unknown(db: Unknown) -> None: ...
async def maybe(s: Socket[str] | None) -> None: ...
async def forward(x: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821
async def result() -> Unknown: ...  # type: ignore[empty-body]
async def missing_result() -> Missing: ...  # type: ignore[name-defined]  # noqa: F821
async def body(x: Annotated[str, Body()]) -> None: ...
async def path(x: str = Path()) -> None: ...
async def two(x: Annotated[str, Depends(username)] = Query()) -> None: ...
async def rest(*x: Annotated[str, Depends(username)]) -> None: ...
async def sockets(*x: Socket[str]) -> None: ...
async def named(**x: str) -> None: ...
async def after(*x: str, y: str) -> None: ...
async def nothing(x: Annotated[str, Depends()]) -> None: ...
async def counted(x: Annotated[str, Depends(username, max_concurrency=2)]) -> None: ...
async def unhashable(x: Annotated[str, Depends(Unhashable())]) -> None: ...
async def deep(x: Annotated[None, Depends(wants_request)]) -> None: ...
async def deep_model(x: Annotated[None, Depends(wants_model)]) -> None: ...
async def deep_rest(x: Annotated[None, Depends(wants_rest)]) -> None: ...
async def deep_query(x: Annotated[None, Depends(wants_query_model)]) -> None: ...
async def deep_unknown(x: Annotated[None, Depends(wants_unknown)]) -> None: ...
async def late(x: LateModel) -> None: ...


class LateModel(BaseModel):
    item: NotThere  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("handler", "parameter", "expected", "came"),
    [
        (yields, "", "async def or def", "def with yield"),
        (Unknown, "", "async def or def", "class"),
        (request, "r", "HTTPConnection, which serves", "starlette.requests.Request"),
        (websocket, "ws", "HTTPConnection, which serves", "WebSocket"),
        (response, "r", "there is no HTTP response", "Response"),
        (tasks, "tasks", "Socket, Room, HTTPConnection or Depends(...)", "BackgroundTasks"),
        (unknown, "db", "Socket, Room, HTTPConnection or Depends(...) or a type that pydantic can check", "Unknown"),
        (maybe, "s", "a type that pydantic can check", "Socket"),
        (late, "x", "a type that pydantic can check", "LateModel"),
        (forward, "x", "a type that is defined", "Missing"),
        (result, "return", "a type that pydantic can check", "Unknown"),
        (missing_result, "return", "a type that is defined", "Missing"),
        (body, "x", "Depends, Security, Query, Header or Cookie", "Body"),
        (path, "x", "Depends, Security, Query, Header or Cookie", "Path"),
        (two, "x", "one marker", "Depends"),
        (rest, "x", "payload arguments for *args", "Depends"),
        (sockets, "x", "a type that pydantic can check", "Socket"),
        (named, "x", "functools.wraps", "**x"),
        (after, "y", "a place before *args", "a keyword argument"),
        (counted, "x", "without max_concurrency", "max_concurrency=2"),
        (unhashable, "x", "hashable", "Unhashable"),
        (circular, "", "dependencies that end somewhere", "a dependency on itself"),
    ],
)
def test_a_wrong_signature_is_an_error_at_registration(
    handler: Callable[..., Any], parameter: str, expected: str, came: str
) -> None:
    with pytest.raises(UsageError) as caught:
        planned(handler, where="/chat say")
    assert str(caught.value).startswith("/chat say: ")
    details = caught.value.details
    assert details["parameter"] == parameter
    assert details["function"] == f"{__name__}.{handler.__qualname__}"
    assert expected in details["expected"]
    assert came in details["came"]


@pytest.mark.parametrize(
    ("handler", "function", "parameter", "expected"),
    [
        (deep, "wants_request", "conn", "HTTPConnection, which serves"),
        (deep_model, "wants_model", "msg", "events have no body"),
        (deep_rest, "wants_rest", "args", "functools.wraps"),
        (deep_query, "wants_query_model", "page", "single query parameters rather than a model"),
    ],
)
def test_a_wrong_dependency_is_named_with_the_handler_that_wants_it(
    handler: Callable[..., Any], function: str, parameter: str, expected: str
) -> None:
    for where, start in (("", ""), ("/chat say", "/chat say: ")):
        with pytest.raises(UsageError) as caught:
            planned(handler, where=where)
        assert str(caught.value).startswith(f"{start}{__name__}.{handler.__name__}: {__name__}.{function}: ")
        assert caught.value.details["parameter"] == parameter
        assert expected in caught.value.details["expected"]


def test_an_unknown_class_in_a_dependency_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"wants_unknown: parameter 'db': .*pydantic can check"):
        planned(deep_unknown)


def test_a_marker_without_a_function_needs_a_class_to_call() -> None:
    with pytest.raises(UsageError, match=r"'dependencies': expected Depends with something hashable"):
        planned(username, dependencies=[Depends()])
    alias = Annotated[Any, Depends()]

    async def handler(x: alias) -> None: ...

    with pytest.raises(UsageError, match="that can be called"):
        planned(handler)


def test_a_handler_without_payload_takes_none() -> None:
    async def greet(text: str) -> None: ...

    with pytest.raises(UsageError, match=r"parameter 'text': .*there is no payload here.*came str"):
        planned(greet, takes_payload=False)


def test_models_defined_in_the_function_around_are_found() -> None:
    class Local(BaseModel):
        text: str

    async def handler(msg: Local, many: list[Local]) -> None: ...

    assert [each.annotation for each in planned(handler).arguments] == [Local, list[Local]]
