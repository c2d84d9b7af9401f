"""Weights → SavedModel → verdict."""
