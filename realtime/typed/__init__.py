"""Typed namespaces: from the signature of a handler to a call of it."""
