// title: The best snapshot of each run
// purpose: By a metric; of equal ones the earliest.
// parameters: none
// columns: run, step, accuracy
// example: {}
MATCH (r:Run)-[:HAS_SNAPSHOT]->(s:Snapshot)
WHERE r.removed_at IS NULL AND s.metric_accuracy IS NOT NULL
WITH s ORDER BY s.run, s.metric_accuracy DESC, s.step
WITH s.run AS run, collect(s.step) AS steps, max(s.metric_accuracy) AS accuracy
RETURN run, steps[0] AS step, accuracy
ORDER BY accuracy DESC, run
