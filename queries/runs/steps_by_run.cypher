// purpose: The steps of some runs that were not removed.
// parameters: runs, removed
// columns: run, steps
UNWIND $runs AS id
MATCH (r:Run {id: id})-[:HAS_SNAPSHOT]->(s:Snapshot)
WHERE $removed OR r.removed_at IS NULL
WITH id AS run, s.step AS step
ORDER BY run, step
RETURN run, collect(step) AS steps
ORDER BY run
