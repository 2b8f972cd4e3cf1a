"""A complete run without any data: phantoms, a tiny source network, and the comparison of ways to spend three labels."""
