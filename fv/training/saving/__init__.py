"""What is kept of a run, and how it is left: checkpoints, signals, a full disk."""
