// title: The best snapshot of each run
// purpose: By a metric; of equal ones the earliest.
// parameters: none
// columns: run, step, accuracy
// example: {}
MATCH (s:Snapshot)
WHERE s.metric_accuracy IS NOT NULL
WITH s ORDER BY s.run, s.metric_accuracy DESC, s.step
WITH s.run AS run, collect(s.step) AS steps, max(s.metric_accuracy) AS accuracy
RETURN run, steps[0] AS step, accuracy
ORDER BY accuracy DESC, run
