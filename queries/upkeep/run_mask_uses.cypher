// purpose: Which masks the snapshots of a run use, each as often as it is used.
// parameters: run
// columns: digest
MATCH (:Run {id: $run})-[:HAS_SNAPSHOT]->(:Snapshot)-[:HAS_MASK]->(m:Mask)
RETURN m.digest AS digest
