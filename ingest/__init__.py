"""How snapshots get into the archive: read from files, transformed to what the graph stores, and loaded."""
