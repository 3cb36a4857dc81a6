"""What others get on the same puzzles: language models, asked in words."""
