// purpose: Say of a run whose connections are not in the graph up to its last step that they wait, from now on if they did not before. Layers that are not projected wait for nothing.
// parameters: run
// columns: run
MATCH (r:Run {id: $run})-[:HAS_LAYER]->(y:Layer)
WHERE y.projection = 'follow' AND y.shared_with IS NULL AND (y.projected_step IS NULL OR y.projected_step < r.last_step)
WITH DISTINCT r
SET r.connections_wait = coalesce(r.connections_wait, timestamp())
RETURN r.id AS run
