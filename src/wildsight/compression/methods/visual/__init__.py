"""Who chooses the visual tokens: a paper is a file, and registers itself in `base.SELECTORS`."""
