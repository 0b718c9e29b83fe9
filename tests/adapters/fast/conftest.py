from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.adapters.fast.served import Served

pytest.importorskip("uvloop")
COMBINATIONS = [(loop, http) for loop in ("uvloop", "asyncio") for http in ("httptools", "h11")]


@pytest.fixture(scope="session", params=COMBINATIONS, ids="-".join)
def _any_server(request: pytest.FixtureRequest) -> Iterator[Served]:
    loop, http = request.param
    with Served(loop=loop, http=http, ws_max_size=1 << 20, buffers=16 << 10) as served:
        yield served


@pytest.fixture
def served(_any_server: Served) -> Iterator[Served]:
    """A server under every event loop and HTTP parser that uvicorn has; after each test it must be as before."""
    yield _any_server
    _any_server.hang_up()
    _any_server.settle()
    left = list(_any_server.heard.queue)
    _any_server.heard.queue.clear()
    assert not left
