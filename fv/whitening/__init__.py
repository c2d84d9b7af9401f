"""A trained model with whitened embeddings: in which direction images of one person differ counts for less."""
