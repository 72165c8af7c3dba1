"""Snapshots come in: read from files, turned into what the graph stores, loaded; and recorded in training jobs."""
