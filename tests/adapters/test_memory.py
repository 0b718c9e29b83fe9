from __future__ import annotations

from adapters.memory import MemoryNameHolders
from realtime.ports import NameHolders
from realtime.testing.names import NamesContract


class TestNames(NamesContract):
    def names(self) -> NameHolders:
        return MemoryNameHolders()
