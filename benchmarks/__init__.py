"""Benchmarks: our server beside its peers on the same work. ``python -m benchmarks.run`` is the command."""
