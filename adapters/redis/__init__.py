"""Redis and Valkey: the bus between nodes. A URL's scheme finds it (entry-point group ``realtime.adapters``)."""

from __future__ import annotations

from adapters.redis.bus import open_bus

__all__ = ["open_bus"]
