"""Training pairs that a trained model finds hard: the nearest impostors, and the genuine pairs that lie farthest apart."""
