"""What ``scripts/fuzz.py`` and ``tests/fuzz`` share: cases drawn from a seed, a place to try them, and the rule."""
