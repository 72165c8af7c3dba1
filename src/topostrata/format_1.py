"""Names that archives and exports of format 1 contain. The product had another name when they were first written.

They are hashed into digests or stored on disk, so they never change: with other bytes here, no existing archive or
export could be read. Nothing else in the product uses the old name.
"""

from __future__ import annotations

# The first of the hashed bytes, for the digest of a mask and of a topology.
MASK_DIGEST = b"stratigraph mask 1\0"
TOPOLOGY_DIGEST = b"stratigraph topology 1\0"

# The name of the one (:Archive) node, and of the database inside an embedded engine.
ARCHIVE_NODE = "stratigraph"
EMBEDDED_DATABASE = "stratigraph"

# The member of archive.json in an export that says which version of the product wrote it.
EXPORT_VERSION = "stratigraph"

# The default directory of earlier versions. It opens when it is named with --store or renamed to the new default.
OLD_DIRECTORY = ".stratigraph"
