// purpose: Add metrics that a run does not have at a step yet.
// parameters: id, metrics
// columns: id
MATCH (m:StepMetrics {id: $id})
SET m += $metrics
RETURN m.id AS id
