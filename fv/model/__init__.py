"""Batches → embeddings → scores: backbones, heads and losses."""
