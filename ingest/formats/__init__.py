"""Snapshots in files, one module per format; ``reading`` is the one door to all of them."""
