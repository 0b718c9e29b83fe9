"""The server that python-socketio's users know, and what happens in it with an event."""
