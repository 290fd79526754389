"""What ``scripts/benchmark.py`` is made of: cases, contestants, clocks, counts, and a file for each section."""
