// purpose: Some snapshots, metrics and layers of a run.
// parameters: run, limit
// columns: node
MATCH (:Run {id: $run})-[:HAS_SNAPSHOT|HAS_METRICS|HAS_LAYER]->(n)
RETURN elementId(n) AS node
LIMIT $limit
