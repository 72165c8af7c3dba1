// purpose: Between which spaces the layers of each run lie.
// parameters: none
// columns: run, source, target
MATCH (r:Run)-[:HAS_LAYER]->(y:Layer)
RETURN DISTINCT r.id AS run, y.source AS source, y.target AS target
