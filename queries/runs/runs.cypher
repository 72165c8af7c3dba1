// purpose: A page of runs in the order of their ids, without those that were removed.
// parameters: after, limit
// columns: id, name, status, config, tags, created_at, first_step, last_step, snapshots
MATCH (r:Run)
WHERE r.id > $after AND r.removed_at IS NULL
WITH r ORDER BY r.id LIMIT $limit
RETURN r.id AS id, r.name AS name, r.status AS status, r.config AS config, r.tags AS tags, r.created_at AS created_at,
  r.first_step AS first_step, r.last_step AS last_step, COUNT { (r)-[:HAS_SNAPSHOT]->(:Snapshot) } AS snapshots
ORDER BY id
