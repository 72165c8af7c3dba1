"""Bytes that are hashed or stored for networks beyond format 1; like those of format 1, they never change."""

from __future__ import annotations

# The first bytes of the digest of a topology with late entries, self-loops, groups, axes or tied layers.
TOPOLOGY_DIGEST = b"topostrata topology 2\0"
