"""Servers of ours for the suites that others wrote (tests/CONFORMANCE.md says how each is run)."""
