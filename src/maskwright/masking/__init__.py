"""Which tokens are hidden, how many, and what stands in their place."""
