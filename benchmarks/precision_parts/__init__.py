"""What takes part in benchmarks/precision.py."""
