"""Snapshots in files, one module per format; ``reading`` reads them all."""
