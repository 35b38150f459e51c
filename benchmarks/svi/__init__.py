"""The contenders of benchmarks/svi.py, each in its own process."""
