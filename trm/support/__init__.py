"""What every part of the library may use; it knows nothing of puzzles or networks."""
