"""The contenders of benchmarks/svi.py, each run in a process of its own."""
