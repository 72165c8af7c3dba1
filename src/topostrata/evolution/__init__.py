"""Between the snapshots of one run: what survived, died, was born, was regrown."""
