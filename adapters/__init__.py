"""The outside: wires, buses, stores and exporters, each behind a port of `realtime.ports`."""
