"""``python -m tests.benchmarks``: minigrad against its peers. It compares; it never fails a test."""
