// title: Layers that are not fully projected
// purpose: What Cypher does not see: layers whose connections stand in the graph only up to `projected_step`, or
//   not at all. An empty answer means that every answer above is complete. Tied layers have no connections of their own.
// parameters: none
// columns: run, layer, projection, projected_step, last_step
// example: {}
MATCH (r:Run)-[:HAS_LAYER]->(y:Layer)
WHERE y.shared_with IS NULL AND (y.projected_step IS NULL OR y.projected_step < r.last_step)
RETURN r.id AS run, y.name AS layer, y.projection AS projection, y.projected_step AS projected_step,
  r.last_step AS last_step
ORDER BY run, y.position
