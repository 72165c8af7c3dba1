// purpose: The steps of some runs.
// parameters: runs
// columns: run, steps
UNWIND $runs AS id
MATCH (:Run {id: id})-[:HAS_SNAPSHOT]->(s:Snapshot)
WITH id AS run, s.step AS step
ORDER BY run, step
RETURN run, collect(step) AS steps
ORDER BY run
