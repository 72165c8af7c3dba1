// purpose: Hang snapshots on their run again that lost it: where it is older than they are.
// parameters: run
// columns: attached
MATCH (r:Run {id: $run})
MATCH (s:Snapshot {run: $run})
WHERE NOT EXISTS { (:Run)-[:HAS_SNAPSHOT]->(s) } AND r.created_at <= s.recorded_at
CREATE (r)-[:HAS_SNAPSHOT]->(s)
RETURN count(s) AS attached
