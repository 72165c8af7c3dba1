// purpose: Take the bytes of a mask away, and what says against which mask they were packed.
// parameters: digest
// columns: digest
MATCH (m:Mask {digest: $digest})
OPTIONAL MATCH (m)-[k:BASE]->()
OPTIONAL MATCH (m)-[:HAS_PART]->(p:MaskPart)
DETACH DELETE p
DELETE k
RETURN $digest AS digest
