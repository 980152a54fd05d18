"""Floor 3: what ties rooms together (the tour of all methods, the benches)."""
