// purpose: The metrics of a run at a step, whether it has a snapshot there or not.
// parameters: run, step, epoch, recorded_at, metrics
// columns: id
MATCH (r:Run {id: $run})
CREATE (r)-[:HAS_METRICS]->(m:StepMetrics {id: $run + '@' + toString($step), run: $run, step: $step,
  recorded_at: $recorded_at})
SET m += $metrics, m.epoch = $epoch
RETURN m.id AS id
