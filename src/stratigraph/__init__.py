"""Stratigraph: an archive of how sparse neural networks' wiring evolves."""
