// purpose: Add metrics of layers and parameters that a run does not have at a step yet. A row: name, properties.
// parameters: id, rows
// columns: layers
MATCH (m:StepMetrics {id: $id})
UNWIND $rows AS row
MERGE (m)-[:OF_LAYER]->(y:LayerMetrics {layer: row[0]})
SET y += row[1]
RETURN count(y) AS layers
