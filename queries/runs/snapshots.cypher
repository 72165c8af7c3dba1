// purpose: A page of the snapshots of a run in the order of their steps; of one that was removed only where that is said.
// parameters: run, after, limit, removed
// columns: snapshot
MATCH (r:Run {id: $run})-[:HAS_SNAPSHOT]->(s:Snapshot)
WHERE s.step > $after AND ($removed OR r.removed_at IS NULL)
RETURN s AS snapshot
ORDER BY s.step LIMIT $limit
