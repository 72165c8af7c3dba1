"""Between runs: who descends from whom."""
