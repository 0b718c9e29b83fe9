"""Pure: no I/O, no clock, no task. The tutorial's plain forms: how raw clients are spoken to, and read."""

from __future__ import annotations

from typing import Any, Final

from realtime import PayloadError, PlainDialect, read_json

Told = dict[str, Any] | None
"""None: there is no word for it. Other writers on the bus may send whatever they like under our names of events;
what has not the form of ours is not passed on, and above all raises nothing, for the others are to get it."""


def chat_form(name: str, data: Any) -> Told:
    """``/ws/chat``: messages as they are; arrivals and departures as words of SYSTEM."""
    if not isinstance(data, dict):
        return None
    if name == "message":
        return data
    if name in ("joined", "left") and {"username", "timestamp"} <= data.keys():
        words = f"{data['username']} {name} the chat"
        return {
            "username": "SYSTEM",
            "message": words,
            "text": words,
            "timestamp": data["timestamp"],
            "is_system": True,
        }
    return told_error(name, data)


def json_chat_form(name: str, data: Any) -> Told:
    """``/ws/json-chat``: every frame has a type."""
    if not isinstance(data, dict):
        return None
    if name == "message":
        return {**data, "type": "chat"}
    if name == "typing":
        return {"type": "user_typing", "username": data.get("username")} if data.get("typing") else None
    return told_error(name, data)


def crowd_form(name: str, data: Any) -> str | None:
    """``/ws/broadcast``: plain sentences."""
    if name == "message":
        return f"Message: {data}"
    if name in CROWD_WORDS and isinstance(data, dict):
        key, words = CROWD_WORDS[name]
        return words.format(data.get(key))
    return None


def secure_form(name: str, data: Any) -> Told:
    """``/ws/secure``: what others in the namespace say."""
    if not isinstance(data, dict):
        return None
    return {**data, "type": "message"} if name == "message" else told_error(name, data)


def told_error(name: str, data: dict[str, Any]) -> Told:
    """The framework's own words to one client."""
    if name == "token_expired":
        return problem("token_expired", str(data.get("message")))
    error = data.get("error")
    return {**error, "type": "error"} if name == "error" and isinstance(error, dict) else None


def problem(code: str, message: str) -> dict[str, Any]:
    return {"type": "error", **PayloadError(message, code=code).as_dict()}


def read_object(text: str) -> dict[str, Any] | str:
    """A JSON object, or the sentence that says why it is none."""
    try:
        found = read_json(text)
    except ValueError:
        return "This is not JSON"
    return found if isinstance(found, dict) else "A JSON object is expected"


CROWD_WORDS: Final = {
    "joined": ("total", "New client joined! Total: {}"),
    "left": ("remaining", "Client disconnected. Remaining: {}"),
}
CHAT = PlainDialect(chat_form)
JSON_CHAT = PlainDialect(json_chat_form)
CROWD = PlainDialect(crowd_form)
SECURE = PlainDialect(secure_form)
