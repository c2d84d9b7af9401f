"""Batches → weights: strategies, optimizers, the step and the loop around it."""
