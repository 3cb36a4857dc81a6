"""Numbers of runs: files with their birth certificate, and intervals."""
