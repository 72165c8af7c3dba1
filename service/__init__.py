"""Answers go out: distances, evolution, lineage, and the faces that serve them."""
