// purpose: The steps of all runs that were not removed: what refs and globs can name.
// parameters: removed
// columns: run, steps
MATCH (r:Run)-[:HAS_SNAPSHOT]->(s:Snapshot)
WHERE $removed OR r.removed_at IS NULL
WITH s.run AS run, s.step AS step
ORDER BY run, step
RETURN run, collect(step) AS steps
ORDER BY run
