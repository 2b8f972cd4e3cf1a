"""One query: scores the pool, asks a strategy and records its answer."""
