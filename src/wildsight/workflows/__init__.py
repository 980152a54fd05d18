"""Floor 3: what ties tasks together (the tour of all methods, the benches)."""
