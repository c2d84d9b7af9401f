"""Shards → batches: reading, decoding and augmenting pairs."""
