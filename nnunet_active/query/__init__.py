"""One query: score the pool, ask a strategy, write down what it said."""
