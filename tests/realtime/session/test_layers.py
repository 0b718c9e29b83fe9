from __future__ import annotations

from inspect import iscoroutinefunction, signature
from typing import Any

import pytest

from realtime.rooms.hub import Hub
from realtime.server.application import Application
from realtime.session import layers
from tests.realtime.scene import Steps


@pytest.mark.parametrize(
    ("port", "keeper"), [(layers.Application, Application), (layers.Index, Hub), (layers.Application, Steps)]
)
def test_who_keeps_a_port_can_be_called_as_it_says(port: Any, keeper: Any) -> None:
    """What a type checker cannot see: the names of the arguments, and what is to be awaited."""
    promised = {name: found for name, found in vars(port).items() if not name.startswith("_") and callable(found)}
    assert promised
    for name, method in promised.items():
        assert list(signature(getattr(keeper, name)).parameters) == list(signature(method).parameters), name
        if iscoroutinefunction(method):
            assert iscoroutinefunction(getattr(keeper, name)), name
