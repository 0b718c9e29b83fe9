"""Who may come in, and how often: tokens, origins, limits, and the reading of the request that knocks."""
