"""What the side-by-side benchmarks share: workloads, contestants, rounds and turns."""
