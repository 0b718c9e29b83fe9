"""One client: the order of its events, its backlog, its limits, its end."""
