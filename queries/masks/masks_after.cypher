// purpose: Which mask some layers of a run have at a snapshot and at those that follow it, at most 64 further; its cost does not grow with the run.
// parameters: id, layers
// columns: step, layer, digest
MATCH (:Snapshot {id: $id})-[:NEXT*0..64]->(s:Snapshot)-[h:HAS_MASK]->(m:Mask)
WHERE h.layer IN $layers
RETURN s.step AS step, h.layer AS layer, m.digest AS digest
ORDER BY step, layer
