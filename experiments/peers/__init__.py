"""Other open implementations of TRM, trained and timed on the same puzzles as ours."""
