// purpose: Where the projection of each layer stands behind what its run holds, or begins after its first step; tied layers have no connections of their own.
// parameters: none
// columns: run, layer, projection, projected_step, last_step, projected_from
MATCH (r:Run)-[:HAS_LAYER]->(y:Layer)
WHERE r.removed_at IS NULL AND y.shared_with IS NULL
  AND (y.projected_step IS NULL OR y.projected_step < r.last_step OR y.projected_from IS NOT NULL)
RETURN r.id AS run, y.name AS layer, y.projection AS projection, y.projected_step AS projected_step,
  r.last_step AS last_step, y.projected_from AS projected_from
ORDER BY run, y.position
