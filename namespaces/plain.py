"""Pure: no I/O, no clock, no task. The tutorial's plain forms: how raw clients are spoken to, and read."""

from __future__ import annotations

from typing import Any

from realtime import PlainDialect, read_json


def chat_form(name: str, data: Any) -> dict[str, Any] | None:
    """``/ws/chat``: messages as they are; arrivals and departures as words of SYSTEM."""
    if name == "message":
        return dict(data)
    if name in ("joined", "left"):
        words = f"{data['username']} {name} the chat"
        return {
            "username": "SYSTEM",
            "message": words,
            "text": words,
            "timestamp": data["timestamp"],
            "is_system": True,
        }
    return told_error(name, data)


def json_chat_form(name: str, data: Any) -> dict[str, Any] | None:
    """``/ws/json-chat``: every frame has a type."""
    if name == "message":
        return {"type": "chat", **data}
    if name == "typing":
        return {"type": "user_typing", "username": data["username"]} if data["typing"] else None
    return told_error(name, data)


def crowd_form(name: str, data: Any) -> str | None:
    """``/ws/broadcast``: plain sentences."""
    if name == "message":
        return f"Message: {data}"
    if name == "joined":
        return f"New client joined! Total: {data['total']}"
    if name == "left":
        return f"Client disconnected. Remaining: {data['remaining']}"
    return None


def secure_form(name: str, data: Any) -> dict[str, Any] | None:
    return {"type": "message", **data} if name == "message" else told_error(name, data)


def told_error(name: str, data: Any) -> dict[str, Any] | None:
    """The framework's own words to one client."""
    if name == "token_expired":
        return problem("token_expired", data["message"])
    return {"type": "error", **data["error"]} if name == "error" else None


def problem(code: str, message: str) -> dict[str, Any]:
    return {"type": "error", "code": code, "message": message}


def read_object(text: str) -> dict[str, Any] | str:
    """A JSON object, or the sentence that says why it is none."""
    try:
        found = read_json(text)
    except ValueError:
        return "This is not JSON"
    return found if isinstance(found, dict) else "A JSON object is expected"


CHAT = PlainDialect(chat_form)
JSON_CHAT = PlainDialect(json_chat_form)
CROWD = PlainDialect(crowd_form)
SECURE = PlainDialect(secure_form)
