// purpose: A page of the snapshots of a run in the order of their steps.
// parameters: run, after, limit, hidden
// columns: snapshot
MATCH (r:Run {id: $run})-[:HAS_SNAPSHOT]->(s:Snapshot)
WHERE s.step > $after AND ($hidden OR r.removed_at IS NULL)
RETURN s AS snapshot
ORDER BY s.step LIMIT $limit
