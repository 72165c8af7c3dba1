// purpose: Which mask some layers of a run have at every step from one to another, both included.
// parameters: run, layers, first, last
// columns: step, layer, digest
MATCH (:Run {id: $run})-[:HAS_SNAPSHOT]->(s:Snapshot)-[h:HAS_MASK]->(m:Mask)
WHERE s.step >= $first AND s.step <= $last AND h.layer IN $layers
RETURN s.step AS step, h.layer AS layer, m.digest AS digest
ORDER BY step, layer
