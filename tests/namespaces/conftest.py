"""One application for the feature tests: a test takes rooms and users of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.namespaces.running import RunningApp, settings_for


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """In development, tokens without leeway, otherwise as it comes."""
    with RunningApp(settings_for(tmp_path_factory.mktemp("features"), jwt_leeway_seconds=0)) as running:
        yield running
