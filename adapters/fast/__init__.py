"""The fast wire: a WebSocket protocol class for uvicorn (``--ws adapters.fast:FastProtocol``)."""

from adapters.fast.protocol import FastProtocol

__all__ = ["FastProtocol"]
