// purpose: The layers of some runs, of those that were removed only where that is said, each run's in order; with the first the run's wiring, where its layers do not say all of it.
// parameters: runs, removed
// columns: run, wiring, name, position, source, target, n_source, n_target, taps, source_labelled, target_labelled, projection, projected_step, lifetimes, projected_last, projected_from, trimming
UNWIND $runs AS id
MATCH (r:Run {id: id})-[:HAS_LAYER]->(y:Layer)
WHERE ($removed OR r.removed_at IS NULL)
RETURN id AS run, CASE WHEN y.position = 0 THEN r.wiring END AS wiring, y.name AS name, y.position AS position,
  y.source AS source, y.target AS target, y.n_source AS n_source, y.n_target AS n_target, y.taps AS taps,
  y.source_labelled AS source_labelled, y.target_labelled AS target_labelled, y.projection AS projection,
  y.projected_step AS projected_step, y.lifetimes AS lifetimes, y.projected_last AS projected_last,
  y.projected_from AS projected_from, y.trimming AS trimming
ORDER BY run, position
