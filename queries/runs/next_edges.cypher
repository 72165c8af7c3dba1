// purpose: Which snapshot of a run follows which, and which place each was given.
// parameters: run
// columns: step, following, position
MATCH (:Run {id: $run})-[:HAS_SNAPSHOT]->(s:Snapshot)
OPTIONAL MATCH (s)-[:NEXT]->(n:Snapshot)
RETURN s.step AS step, collect(n.step) AS following, s.position AS position
ORDER BY step
