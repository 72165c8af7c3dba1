// purpose: Which snapshot of a run follows which.
// parameters: run
// columns: step, following
MATCH (:Run {id: $run})-[:HAS_SNAPSHOT]->(s:Snapshot)
OPTIONAL MATCH (s)-[:NEXT]->(n:Snapshot)
RETURN s.step AS step, collect(n.step) AS following
ORDER BY step
