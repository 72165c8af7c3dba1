"""The networks of the demo, and their training on real data: ``topostrata demo`` archives their wiring."""
