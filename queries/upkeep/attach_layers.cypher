// purpose: Hang layers on their run again that lost it: where it has snapshots, but no layer in their places.
// parameters: run
// columns: attached
MATCH (r:Run {id: $run})
MATCH (y:Layer {run: $run})
WHERE NOT EXISTS { (:Run)-[:HAS_LAYER]->(y) } AND r.last_step IS NOT NULL
  AND NOT EXISTS { (r)-[:HAS_LAYER]->(:Layer {position: y.position}) }
CREATE (r)-[:HAS_LAYER]->(y)
RETURN count(y) AS attached
