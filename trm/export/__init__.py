"""One supervision step as a file that runs without the model's code."""
