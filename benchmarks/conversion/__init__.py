"""The parts of benchmarks/convert.py: each measures one promise of the converter."""
