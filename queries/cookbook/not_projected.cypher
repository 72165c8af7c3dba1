// title: Layers that are not fully projected
// purpose: What Cypher does not see: layers whose connections stand in the graph only up to `projected_step`, only
//   from `projected_from` on (of a run pushed with `--project "last N"`), or not at all. An empty answer means that every answer above is complete. Tied layers have no connections of their own.
// parameters: none
// columns: run, layer, projection, projected_from, projected_step, last_step
// example: {}
MATCH (r:Run)-[:HAS_LAYER]->(y:Layer)
WHERE r.removed_at IS NULL AND y.shared_with IS NULL
  AND (y.projected_step IS NULL OR y.projected_step < r.last_step OR y.projected_from IS NOT NULL)
RETURN r.id AS run, y.name AS layer, y.projection AS projection, y.projected_from AS projected_from,
  y.projected_step AS projected_step, r.last_step AS last_step
ORDER BY run, y.position
