// purpose: The metrics of a run at one step by their id, run@step.
// parameters: id
// columns: metrics, layers
MATCH (m:StepMetrics {id: $id})
OPTIONAL MATCH (m)-[:OF_LAYER]->(y:LayerMetrics)
RETURN m AS metrics, collect(y) AS layers
