// purpose: A page of the metrics of a run at its steps, in their order, with those of its layers and parameters; of a run that was removed only where that is said.
// parameters: run, after, limit, removed
// columns: metrics, layers
MATCH (r:Run {id: $run})-[:HAS_METRICS]->(m:StepMetrics)
WHERE m.step > $after AND ($removed OR r.removed_at IS NULL)
WITH m ORDER BY m.step LIMIT $limit
OPTIONAL MATCH (m)-[:OF_LAYER]->(y:LayerMetrics)
WITH m, collect(y) AS layers
RETURN m AS metrics, layers
ORDER BY m.step
