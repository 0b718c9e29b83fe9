from __future__ import annotations

from tests.hostile.houses import house, houses
from tests.wire.servers import server, servers, wire

__all__ = ["house", "houses", "server", "servers", "wire"]  # fixtures
