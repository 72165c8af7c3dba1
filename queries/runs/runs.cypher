// purpose: A page of runs in the order of their ids, those that were removed only where that is said: of all, or of those with a status (an empty text: any), with all of some tags, and with snapshots between two steps (below 0: no bound).
// parameters: after, limit, removed, status, tags, step_from, step_to
// columns: id, name, status, config, tags, created_at, first_step, last_step, snapshots, parents
MATCH (r:Run)
WHERE r.id > $after AND ($removed OR r.removed_at IS NULL)
  AND ($status = '' OR r.status = $status)
  AND all(tag IN $tags WHERE tag IN r.tags)
  AND ($step_from < 0 OR r.last_step >= $step_from)
  AND ($step_to < 0 OR r.first_step <= $step_to)
WITH r ORDER BY r.id LIMIT $limit
RETURN r.id AS id, r.name AS name, r.status AS status, r.config AS config, r.tags AS tags, r.created_at AS created_at,
  r.first_step AS first_step, r.last_step AS last_step, COUNT { (r)-[:HAS_SNAPSHOT]->(:Snapshot) } AS snapshots,
  [(r)-[d:DESCENDS_FROM]->(s:Snapshot) | [s.run, s.step, d.how]] AS parents
ORDER BY id
