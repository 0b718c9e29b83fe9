"""realtime-rooms: Socket.IO namespaces and rooms for FastAPI, with plain WebSocket clients in the same rooms.

What is exported here, from ``realtime.ports``, ``realtime.testing`` and ``realtime.socketio`` is public.
"""

from realtime.access.identity import Identity, Tokens, find_token, problem_with_user
from realtime.access.limits import SlidingWindow
from realtime.app import Realtime
from realtime.clients.context import Socket, check_room
from realtime.clients.guests import stream_opening, stream_text
from realtime.clients.peer import Peer, PlainDialect
from realtime.encoding.codecs import Dialect, Encoded, RawJson, json_bytes
from realtime.encoding.codecs import json_text as write_json  # `json_text` is a module of ours
from realtime.encoding.json_text import read_json
from realtime.errors import (
    AccessError,
    CloseCode,
    LimitError,
    OutsideError,
    PayloadError,
    ProtocolError,
    RealtimeError,
    UsageError,
    wire_error,
)
from realtime.errors import Refusal as Fail
from realtime.ids import new_id, now_iso
from realtime.metrics import Metrics
from realtime.names import NAME_LIMIT, Reason, direct_room, is_system_room, name_key, problem_with_name, user_room
from realtime.ports import Answers, Bus, History, NameHolders, Page, StoredMessage
from realtime.recovery.since import Since
from realtime.rooms.emitted import BusState, Emitted
from realtime.server.calls import ClientGone, InboxFull
from realtime.server.server import Server
from realtime.session.drops import Dropped
from realtime.settings import Settings
from realtime.typed.namespace import Namespace, event
from realtime.typed.resolve import error_details, per_connection

__all__ = [
    "NAME_LIMIT",
    "AccessError",
    "Answers",
    "Bus",
    "BusState",
    "ClientGone",
    "CloseCode",
    "Dialect",
    "Dropped",
    "Emitted",
    "Encoded",
    "Fail",
    "History",
    "Identity",
    "InboxFull",
    "LimitError",
    "Metrics",
    "NameHolders",
    "Namespace",
    "OutsideError",
    "Page",
    "PayloadError",
    "Peer",
    "PlainDialect",
    "ProtocolError",
    "RawJson",
    "Realtime",
    "RealtimeError",
    "Reason",
    "Server",
    "Settings",
    "Since",
    "SlidingWindow",
    "Socket",
    "StoredMessage",
    "Tokens",
    "UsageError",
    "check_room",
    "direct_room",
    "error_details",
    "event",
    "find_token",
    "is_system_room",
    "json_bytes",
    "name_key",
    "new_id",
    "now_iso",
    "per_connection",
    "problem_with_name",
    "problem_with_user",
    "read_json",
    "stream_opening",
    "stream_text",
    "user_room",
    "wire_error",
    "write_json",
]

__version__ = "0.1.0"
