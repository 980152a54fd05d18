"""What compression costs and what it loses: questions, scores, times, the bench, autotune, layer profiles."""
