READERS = [
    *(
        "adapters.fast.frames",
        "realtime.clients.connection",
        "realtime.encoding.engineio_frames",
        "realtime.encoding.json_text",
    ),
    *(
        "realtime.encoding.msgpack_data",
        "realtime.encoding.msgpack_packets",
        "realtime.encoding.packet_rules",
        "realtime.encoding.packets",
    ),
]
"""The modules that fuzzing is guided by."""
