from __future__ import annotations

from tests.wire.servers import server, servers, wire

__all__ = ["server", "servers", "wire"]  # fixtures
