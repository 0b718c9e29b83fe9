"""The load tool: thousands of cheap clients in one process, and the command ``realtime bench`` made of them.

``frames``, ``speech`` and ``figures`` are pure; ``client`` is one client, ``websocket`` and ``polling`` its wires;
``crowd`` lets many in; ``work`` and ``scenarios`` give them something to do; ``command`` is what people type.
"""

from realtime.bench.command import bench

__all__ = ["bench"]
