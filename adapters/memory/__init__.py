"""What one process needs when there is nothing outside: its own memory."""

from __future__ import annotations

from adapters.memory.answers import MemoryAnswers
from adapters.memory.journal import MemoryJournal, MemoryLogs
from adapters.memory.names import MemoryNameHolders
from adapters.memory.sessions import MemorySessions, MemoryStore

__all__ = ["MemoryAnswers", "MemoryJournal", "MemoryLogs", "MemoryNameHolders", "MemorySessions", "MemoryStore"]
