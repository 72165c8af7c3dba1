"""Between runs: which run descends from which."""
