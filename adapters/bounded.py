"""uvicorn's WebSocket class for ``realtime serve --wire portable``, with an end to three things that it leaves open.

It answers every ping, also while the client does not read, and the answers wait in memory for as long as the client
likes. A client that sends without a pause keeps the loop to itself. And a head that its parser does not take is
neither answered nor ended. None of this reaches an application, so it has to be seen to here.
"""

from __future__ import annotations

from typing import Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

BULK_BYTES: Final = 1 << 16
"""After a read of this size everybody else has a turn: libuv would read a busy socket 32 times on end, 8 MiB."""
REFUSED: Final = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BoundedWebSockets(WebSocketsSansIOProtocol):
    """Keeps uvicorn's contract for a WebSocket class."""

    _pong = b""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.is_closing():
            return
        if not self.handshake_initiated:
            # The HTTP class hands over a head that is whole, so nothing more belongs to it.
            self.transport.write(b"".join(self.conn.data_to_send()) or REFUSED)
            self.transport.close()
        elif len(data) >= BULK_BYTES and not self.read_paused:
            self.transport.pause_reading()
            self.loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        if not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def handle_ping(self) -> None:
        """Of many pings while the client does not read, the latest is answered (RFC 6455 section 5.5.3)."""
        if self.writable.is_set():
            super().handle_ping()
            return
        pongs = self.conn.data_to_send()
        if pongs:
            self._pong = pongs[-1]

    def resume_writing(self) -> None:
        super().resume_writing()
        pong, self._pong = self._pong, b""
        if pong and not self.close_sent and not self.transport.is_closing():
            self.transport.write(pong)
