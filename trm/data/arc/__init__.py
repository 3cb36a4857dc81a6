"""ARC-AGI: files of tasks, their augmentations as identifiers, and the questions that vote."""
