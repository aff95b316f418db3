"""How fast a training step is, beside other frameworks: ``minigrad bench``.

``workloads`` are what is timed, and the process that times them; ``rounds`` runs one such process
for each framework, in turn, and compares. ``python -m tests.benchmarks`` does the same at length.
"""
