"""Commands that run experiments, tests and benchmarks."""
