"""The side-by-side run: one workload, every contestant in a process of its own, in turns."""
