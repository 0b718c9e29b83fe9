READERS = [
    *("adapters.fast.frames", "realtime.connection", "realtime.engineio_frames", "realtime.json_text"),
    *("realtime.msgpack_data", "realtime.msgpack_packets", "realtime.packet_rules", "realtime.packets"),
]
"""The modules that fuzzing is guided by."""
