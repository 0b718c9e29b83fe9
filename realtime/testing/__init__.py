"""Public: what authors of applications and of adapters test with.

Each port of ``realtime.ports`` has one contract suite here, a class to subclass; nothing here imports
a test runner.
"""

from __future__ import annotations

from realtime.testing.history import HistoryContract
from realtime.testing.wire import MemoryClient, MemoryWire, Refused

__all__ = ["HistoryContract", "MemoryClient", "MemoryWire", "Refused"]
