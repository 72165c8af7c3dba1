// purpose: Give a snapshot of a run the id of its step.
// parameters: run, step
// columns: id
MATCH (:Run {id: $run})-[:HAS_SNAPSHOT]->(s:Snapshot)
WHERE s.step = $step
SET s.id = $run + '@' + toString($step), s.run = $run
RETURN s.id AS id
