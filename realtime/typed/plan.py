"""What a compiled handler does with one event: resolve, check, call, clean up. ``resolve`` makes these plans."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from pydantic import ValidationError
from starlette.exceptions import HTTPException, WebSocketException

from realtime.errors import AccessError, RealtimeError, Refusal, UsageError
from realtime.eventloop.threads import in_thread
from realtime.typed.payload import Argument, Payload, error_details, invalid
from realtime.typed.signature import name_of
from realtime.typed.steps import Call, Inputs, Overrides, Runner, Step, cleaning, take


@dataclass(frozen=True, slots=True)
class Recipe:
    """All of a plan but the callable. The first slots hold the payload, one for each argument."""

    arguments: tuple[Argument, ...]
    inputs: Inputs
    steps: tuple[Step, ...]
    size: int
    blocking: bool
    """The callable is a plain ``def`` and belongs in a thread."""
    finish: Callable[[Any], Any] | None = None
    """Makes the value JSON-ready."""
    takes_payload: bool = True


class Plan:
    """A handler's signature, compiled. ``await plan.run(call)`` handles one event.

    ``run`` resolves the dependencies, checks the payload, calls the handler and cleans up, in this order and all
    before it returns. It raises RealtimeError for what a client may be told (Starlette's HTTPException and
    WebSocketException are translated) and whatever else the handler or a dependency raised. Cancelled, it
    cleans up first. Two calls at once do not touch each other.
    """

    __slots__ = (
        "_execute",
        "_recipe",
        "_recompile",
        "_variant",
        "arguments",
        "begin",
        "finish",
        "handler",
        "returns",
        "run",
    )

    run: Runner

    def __init__(
        self,
        handler: Callable[..., Any],
        recipe: Recipe,
        returns: Any,
        *,
        recompile: Callable[[Overrides], Plan] | None = None,
        unbound: bool = False,
    ) -> None:
        """``recompile`` makes the plan for a set of overrides; None where there is nothing to override."""
        self.handler = handler
        self.arguments = recipe.arguments
        self.returns = returns
        """The return annotation, ``inspect.Signature.empty`` where there is none."""
        self._recipe = recipe
        self._recompile = recompile
        self._variant: tuple[Overrides, Plan] | None = None
        self._execute = _unbound(handler) if unbound else runner(handler, recipe)
        self.run = self._execute if recompile is None else self._run_overridable
        self.begin: Callable[[Sequence[Any]], Coroutine[Any, Any, Any]] | None = None
        """``run`` in two halves, for a handler that wants one argument and nothing else: checks the payload, which has
        the event's name in front, and is the handler's own coroutine. What that raises wants ``translated``, what it
        answers wants ``finish``. None for every other plan."""
        self.finish = recipe.finish
        if recompile is None and not unbound and _wants_one(recipe):
            self.begin = _beginner(partial(in_thread, handler) if recipe.blocking else handler, recipe)

    def bind(self, owner: object) -> Plan:
        """The plan of a function that was compiled with ``skip_first``, as a method of ``owner``."""
        recompile = self._recompile
        return Plan(
            self.handler.__get__(owner),
            self._recipe,
            self.returns,
            recompile=recompile and (lambda overrides: recompile(overrides).bind(owner)),
        )

    async def _run_overridable(self, call: Call) -> Any:
        if call.overrides:
            return await self._overridden(call.overrides)._execute(call)
        return await self._execute(call)

    def _overridden(self, overrides: Overrides) -> Plan:
        """Compiled when first met. Only the last is kept: a test sets its overrides and sends many events."""
        if self._variant is None or self._variant[0] != overrides:
            assert self._recompile is not None
            self._variant = dict(overrides), self._recompile(overrides)
        return self._variant[1]


def runner(handler: Callable[..., Any], recipe: Recipe) -> Runner:
    """The cheapest way to run this recipe: most have at most one argument and no dependency."""
    called = partial(in_thread, handler) if recipe.blocking else handler
    count = len(recipe.arguments)
    if not count and _plain(recipe):
        return _no_argument(called, recipe)
    if _wants_one(recipe):
        return _one_argument(called, recipe)
    return _any_arguments(called, recipe)


def _plain(recipe: Recipe) -> bool:
    return not recipe.steps and recipe.inputs == Inputs(tuple(range(len(recipe.arguments))))


def _wants_one(recipe: Recipe) -> bool:
    return len(recipe.arguments) == 1 and recipe.arguments[0].required and _plain(recipe)


def translated(error: HTTPException | WebSocketException) -> RealtimeError:
    """FastAPI's way to say no, in our words; ``detail`` is the author's own and goes to the client."""
    if isinstance(error, WebSocketException):
        return AccessError(error.reason or "Not allowed")
    detail: Any = error.detail  # text in Starlette's exception, anything in FastAPI's
    message, details = (detail, None) if isinstance(detail, str) else ("", detail)
    if error.status_code == 401:
        return AccessError(message or "Not authenticated", code="unauthorized", details=details)
    if error.status_code == 403:
        return AccessError(message or "Not allowed", details=details)
    wait = (error.headers or {}).get("Retry-After", "")
    return Refusal(
        f"http_{error.status_code}", message, details=details, retry_after=float(wait) if wait.isdecimal() else None
    )


FOREIGN: Final = (HTTPException, WebSocketException)
"""What ``translated`` takes."""


def _no_argument(called: Callable[..., Any], recipe: Recipe) -> Runner:
    finish, payload = recipe.finish, Payload(()) if recipe.takes_payload else None

    async def run(call: Call) -> Any:
        if call.args and payload is not None:
            raise payload.miscounted(len(call.args))
        try:
            result = await called()
        except FOREIGN as error:
            raise translated(error) from error
        return result if finish is None else finish(result)

    return run


def _beginner(called: Callable[..., Any], recipe: Recipe) -> Callable[[Sequence[Any]], Coroutine[Any, Any, Any]]:
    payload = Payload(recipe.arguments)
    name, validate = recipe.arguments[0].name, recipe.arguments[0].adapter.validator.validate_python

    def begin(data: Sequence[Any]) -> Any:
        if len(data) != 2:
            raise payload.miscounted(len(data) - 1)
        try:
            value = validate(data[1])
        except ValidationError as error:
            raise invalid(error_details(error, name)) from None
        return called(value)

    return begin


def _one_argument(called: Callable[..., Any], recipe: Recipe) -> Runner:
    finish, begin = recipe.finish, _beginner(called, recipe)

    async def run(call: Call) -> Any:
        try:
            result = await begin(("", *call.args))
        except FOREIGN as error:
            raise translated(error) from error
        return result if finish is None else finish(result)

    return run


def _any_arguments(called: Callable[..., Any], recipe: Recipe) -> Runner:
    steps, size, finish = recipe.steps, recipe.size, recipe.finish
    payload = Payload(recipe.arguments) if recipe.takes_payload else None
    count, invoke = len(recipe.arguments), recipe.inputs.caller(called)

    async def body(call: Call, stack: AsyncExitStack) -> Any:
        values: list[Any] = [None] * size
        await take(steps, call, values, stack)
        if payload is not None:
            values[:count] = payload.read(call.args)
        result = await invoke(call, values)
        return result if finish is None else finish(result)

    cleaned = cleaning(body, steps)

    async def run(call: Call) -> Any:
        try:
            return await cleaned(call)
        except FOREIGN as error:
            raise translated(error) from error

    return run


def _unbound(handler: Callable[..., Any]) -> Runner:
    async def run(_: Call) -> Any:
        raise UsageError(f"{name_of(handler)} was compiled as a method; bind() its plan to an object first")

    return run
