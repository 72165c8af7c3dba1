// purpose: All masks: against which each is packed, its bytes, and how often it is used by snapshots that hang on a run.
// parameters: none
// columns: node, digest, base, bytes, uses
MATCH (m:Mask)
RETURN elementId(m) AS node, m.digest AS digest, m.base AS base, m.bytes AS bytes,
  COUNT { (:Run)-[:HAS_SNAPSHOT]->(:Snapshot)-[:HAS_MASK]->(m) } AS uses
