from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from fastapi import HTTPException, WebSocketException
from pydantic import TypeAdapter
from starlette.requests import HTTPConnection

from realtime.errors import AccessError, PayloadError, RealtimeError, Refusal, UsageError
from realtime.typed.payload import Argument
from realtime.typed.plan import Plan, Recipe, translated
from realtime.typed.steps import Call, Inputs, Mode, Step

CONNECTION = HTTPConnection({"type": "websocket", "query_string": b"", "headers": []})


def call(*args: Any, overrides: Mapping[Callable[..., Any], Callable[..., Any]] | None = None) -> Call:
    return Call(args, CONNECTION, overrides=overrides or {})


def recipe(*names: str, steps: tuple[Step, ...] = (), blocking: bool = False, **more: Any) -> Recipe:
    arguments = tuple(Argument(name, str, TypeAdapter(str), required=True) for name in names)
    size = len(names) + len(steps)
    return Recipe(arguments, Inputs(tuple(range(size))), steps, size, blocking, **more)


async def give(*values: Any) -> list[Any]:
    return list(values)


async def no_http(*_: Any) -> None:
    raise HTTPException(409, "Taken")


VALUE = Step(1, Mode.VALUE, lambda call, values: "value")
SHAPES = [recipe(), recipe("a"), recipe("a", "b"), recipe("a", steps=(VALUE,))]


@pytest.mark.asyncio
@pytest.mark.parametrize("shape", SHAPES)
async def test_the_handler_gets_its_values(shape: Recipe) -> None:
    args = "xyz"[: len(shape.arguments)]
    plan = Plan(give, shape, None)
    assert plan.arguments == shape.arguments
    assert await plan.run(call(*args)) == [*args, *["value"] * len(shape.steps)]


@pytest.mark.asyncio
@pytest.mark.parametrize("shape", SHAPES)
async def test_a_wrong_payload_never_reaches_the_handler(shape: Recipe) -> None:
    plan = Plan(no_http, shape, None)
    with pytest.raises(PayloadError):
        await plan.run(call(*"xyz"[: len(shape.arguments) + 1]))
    if shape.arguments:
        with pytest.raises(PayloadError) as caught:
            await plan.run(call(*[3] * len(shape.arguments)))
        assert caught.value.details[0]["loc"] == ["a"]


@pytest.mark.asyncio
@pytest.mark.parametrize("shape", SHAPES)
async def test_an_http_exception_is_a_refusal(shape: Recipe) -> None:
    with pytest.raises(Refusal, match="Taken") as caught:
        await Plan(no_http, shape, None).run(call(*"xyz"[: len(shape.arguments)]))
    assert caught.value.code == "http_409"


@pytest.mark.asyncio
@pytest.mark.parametrize("names", [(), ("a",), ("a", "b")])
async def test_the_result_is_finished(names: tuple[str, ...]) -> None:
    assert await Plan(give, recipe(*names, finish=len), None).run(call(*names)) == len(names)


@pytest.mark.asyncio
@pytest.mark.parametrize("steps", [(), (Step(0, Mode.VALUE, lambda call, values: "value"),)])
async def test_a_payload_that_nobody_takes_is_ignored(steps: tuple[Step, ...]) -> None:
    plan = Plan(give, recipe(steps=steps, takes_payload=False), None)
    assert await plan.run(call("anything")) == ["value"] * len(steps)


@pytest.mark.asyncio
async def test_a_plan_without_dependencies_ignores_overrides() -> None:
    assert await Plan(give, recipe(), None).run(call(overrides={give: no_http})) == []


@pytest.mark.asyncio
async def test_a_plan_is_compiled_once_for_the_same_overrides() -> None:
    compiled: list[Mapping[Callable[..., Any], Callable[..., Any]]] = []

    def recompile(overrides: Mapping[Callable[..., Any], Callable[..., Any]]) -> Plan:
        compiled.append(overrides)
        return Plan(next(iter(overrides.values())), recipe(), None)

    async def other() -> str:
        return "other"

    plan = Plan(give, recipe(), None, recompile=recompile)
    overrides: dict[Callable[..., Any], Callable[..., Any]] = {give: other}
    for _ in range(2):
        assert await plan.run(call(overrides=overrides)) == "other"
    assert len(compiled) == 1
    overrides[give] = give  # the same dictionary with another content is noticed
    assert await plan.run(call(overrides=overrides)) == []
    assert len(compiled) == 2
    assert await plan.run(call()) == []


class Chat:
    async def say(self) -> Chat:
        return self

    async def shout(self) -> str:
        return "shouted"


@pytest.mark.asyncio
async def test_a_method_is_compiled_once_and_bound_to_each_object() -> None:
    unbound = Plan(
        Chat.say,
        recipe(),
        None,
        recompile=lambda overrides: Plan(Chat.shout, recipe(), None, unbound=True),
        unbound=True,
    )
    one, two = Chat(), Chat()
    assert await unbound.bind(one).run(call()) is one
    assert await unbound.bind(two).run(call()) is two
    assert await unbound.bind(two).run(call(overrides={give: no_http})) == "shouted"
    with pytest.raises(UsageError, match=r"Chat\.say was compiled as a method; bind"):
        await unbound.run(call())
    assert await Plan(Chat.say, recipe(), None, unbound=True).bind(one).run(call()) is one


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (HTTPException(401, "Who?"), AccessError, {"code": "unauthorized", "message": "Who?"}),
        (HTTPException(401), AccessError, {"code": "unauthorized", "message": "Unauthorized"}),
        (HTTPException(403, "No"), AccessError, {"code": "forbidden", "message": "No"}),
        (HTTPException(404), Refusal, {"code": "http_404", "message": "Not Found"}),
        (HTTPException(422, {"a": 1}), Refusal, {"code": "http_422", "message": "Http 422", "details": {"a": 1}}),
        (HTTPException(403, [1]), AccessError, {"code": "forbidden", "message": "Not allowed", "details": [1]}),
        (
            HTTPException(429, "Slow", {"Retry-After": "7"}),
            Refusal,
            {"code": "http_429", "message": "Slow", "retry_after": 7.0},
        ),
        (HTTPException(503, "x", {"Retry-After": "Fri"}), Refusal, {"code": "http_503", "message": "x"}),
        (WebSocketException(1008, "No"), AccessError, {"code": "forbidden", "message": "No"}),
        (WebSocketException(1008), AccessError, {"code": "forbidden", "message": "Not allowed"}),
    ],
)
def test_exceptions_of_fastapi_are_said_in_our_words(
    error: HTTPException | WebSocketException, kind: type[RealtimeError], told: dict[str, Any]
) -> None:
    found = translated(error)
    assert type(found) is kind
    assert found.as_dict() == told
