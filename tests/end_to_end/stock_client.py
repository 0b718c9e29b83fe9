"""What every script of a stock JavaScript client begins with that is to come back: it keeps what it was told."""

from __future__ import annotations

WATCHED = """
const told = [], connects = [];
socket.onAny((name, ...args) => told.push([name, ...args]));
socket.on("connect", () => connects.push([socket.recovered, socket.id, told.length]));
const connected = () => new Promise((resolve) => socket.once("connect", resolve));
const heard = (text) => new Promise((resolve) => {
  const look = () => told.some((each) => JSON.stringify(each).includes(text)) ? resolve() : setTimeout(look, 5);
  look();
});
await connected();
await socket.emitWithAck("join", room);
"""
"""Needs ``socket`` and ``room``; makes ``told``, ``connects`` ([recovered, id, told before it]), ``connected()`` and
``heard(text)``, and is in the room in the end."""
