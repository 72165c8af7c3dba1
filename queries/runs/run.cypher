// purpose: One run.
// parameters: run
// columns: id, name, status, config, tags, created_at, first_step, last_step, snapshots
MATCH (r:Run {id: $run})
RETURN r.id AS id, r.name AS name, r.status AS status, r.config AS config, r.tags AS tags, r.created_at AS created_at,
  r.first_step AS first_step, r.last_step AS last_step, COUNT { (r)-[:HAS_SNAPSHOT]->(:Snapshot) } AS snapshots
