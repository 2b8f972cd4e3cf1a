"""A complete run without any data: phantoms, a tiny source network, and a comparison of ways to spend three labels."""
