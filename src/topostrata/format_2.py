"""What is hashed or stored of the networks that format 1 cannot say; like format 1's bytes it never changes."""

from __future__ import annotations

# The first bytes of the digest of a topology with late entries, self-loops, groups, axes or tied layers.
TOPOLOGY_DIGEST = b"topostrata topology 2\0"
