// purpose: Snapshots, layers and metrics that hang on no run, and parts that hang on no mask or job.
// parameters: none
// columns: kind, node, name
MATCH (n:Snapshot)
WHERE NOT EXISTS { (:Run)-[:HAS_SNAPSHOT]->(n) }
RETURN 'Snapshot' AS kind, elementId(n) AS node, n.id AS name
UNION ALL
MATCH (n:Layer)
WHERE NOT EXISTS { (:Run)-[:HAS_LAYER]->(n) }
RETURN 'Layer' AS kind, elementId(n) AS node, n.id AS name
UNION ALL
MATCH (n:StepMetrics)
WHERE NOT EXISTS { (:Run)-[:HAS_METRICS]->(n) }
RETURN 'StepMetrics' AS kind, elementId(n) AS node, n.id AS name
UNION ALL
MATCH (n:LayerMetrics)
WHERE NOT EXISTS { (:StepMetrics)-[:OF_LAYER]->(n) }
RETURN 'LayerMetrics' AS kind, elementId(n) AS node, n.layer AS name
UNION ALL
MATCH (n:MaskPart)
WHERE NOT EXISTS { (:Mask)-[:HAS_PART]->(n) }
RETURN 'MaskPart' AS kind, elementId(n) AS node, n.id AS name
UNION ALL
MATCH (n:JobPart)
WHERE NOT EXISTS { (:Job)-[:HAS_PART]->(n) }
RETURN 'JobPart' AS kind, elementId(n) AS node, n.id AS name
