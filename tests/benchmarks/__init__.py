"""``python -m tests.benchmarks``: minigrad against its peers. It compares and never fails."""
