"""Pure: no I/O, no clock, no task. Which users are in which rooms of this instance, with how many connections."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Stay:
    """One user in one room."""

    connections: int
    since: str


class Attendance:
    """Counts connections by room and user: the first to come and the last to go are told apart."""

    def __init__(self) -> None:
        self._rooms: dict[str, dict[str, Stay]] = {}

    def arrive(self, room: str, user: str, now: str) -> bool:
        """True for the user's first connection in this room."""
        stays = self._rooms.setdefault(room, {})
        stay = stays.get(user)
        if stay is None:
            stays[user] = Stay(1, now)
            return True
        stay.connections += 1
        return False

    def depart(self, room: str, user: str) -> bool:
        """True for the user's last connection in this room."""
        stays = self._rooms.get(room)
        stay = stays.get(user) if stays is not None else None
        if stays is None or stay is None:
            return False
        stay.connections -= 1
        if stay.connections:
            return False
        del stays[user]
        if not stays:
            del self._rooms[room]
        return True

    def users(self, room: str) -> list[tuple[str, Stay]]:
        """In the order of arrival."""
        return list(self._rooms.get(room, {}).items())
