// purpose: Some runs by their ids, unless they were removed.
// parameters: ids, removed
// columns: id, name, status, config, tags, created_at, first_step, last_step, snapshots, parents
UNWIND $ids AS id
MATCH (r:Run {id: id})
WHERE $removed OR r.removed_at IS NULL
WITH r ORDER BY r.id
RETURN r.id AS id, r.name AS name, r.status AS status, r.config AS config, r.tags AS tags, r.created_at AS created_at,
  r.first_step AS first_step, r.last_step AS last_step, COUNT { (r)-[:HAS_SNAPSHOT]->(:Snapshot) } AS snapshots,
  [(r)-[d:DESCENDS_FROM]->(s:Snapshot) | [s.run, s.step, d.how]] AS parents
ORDER BY id
