"""The programs under test. All of them understand the same events (see benchmarks/README.md)."""
