"""Benchmarks of speed, memory and accuracy: `python -m launch.bench`."""
