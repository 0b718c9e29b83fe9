"""What sessions ask of the layers above them, handed over once, at construction: knowledge goes up as answers."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, Protocol, TypeVar

Who = TypeVar("Who", contravariant=True)
"""A membership."""


class Application(Protocol[Who]):
    """What sessions ask of the layers above; handed over once, at construction."""

    def knows(self, namespace: str) -> bool: ...

    def overlaps(self, member: Who, data: Sequence[Any]) -> bool:
        """May this event run beside others of the same client?"""

    def limited(self, namespace: str) -> bool:
        """Does the limit of events per second hold here?"""

    def label(self, namespace: str) -> str:
        """For metrics: where clients choose names, they must not grow a table with them."""

    def connect(self, member: Who, auth: Any) -> Coroutine[Any, Any, None]:
        """Authorise, answer CONNECT or CONNECT_ERROR, greet. Must not raise."""

    def event(self, member: Who, data: Sequence[Any], ack: int | None) -> Coroutine[Any, Any, None]:
        """Handle and acknowledge. Must not raise."""

    async def ended(self, member: Who, reason: str) -> None:
        """Run the disconnect hook. Must not raise."""

    def expired(self, member: Who) -> None:
        """The member's token has reached its end: tell it and dismiss it."""


class Index(Protocol[Who]):
    """What sessions ask of the hub."""

    def attach(self, member: Who) -> None: ...
    def detach(self, member: Who) -> None: ...
    def forget(self, member: Who) -> None: ...
