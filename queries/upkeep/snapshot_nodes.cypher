// purpose: The snapshots of a run as they stand in the graph, whatever they say of themselves.
// parameters: run
// columns: node, id, run, step
MATCH (:Run {id: $run})-[:HAS_SNAPSHOT]->(s:Snapshot)
RETURN elementId(s) AS node, s.id AS id, s.run AS run, s.step AS step
ORDER BY step
