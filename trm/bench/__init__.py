"""What a training step costs: clocks around real runs, and the ceiling it is held against."""
