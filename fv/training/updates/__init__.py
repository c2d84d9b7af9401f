"""From gradients to new weights: precision, accumulation, update rules, averages."""
