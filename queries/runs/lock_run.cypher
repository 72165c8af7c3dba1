// purpose: Make the run where it is new, and take its lock: the first statement of every transaction that adds to it. Projectors are counted from the time on, so that none of a purged run of this name is taken for one of the new.
// parameters: run, name, status, config, tags, created_at, token
// columns: created, removed, name, status, config, tags, last_step, last_digest
MERGE (r:Run {id: $run})
ON CREATE SET r.name = $name, r.status = $status, r.config = $config, r.tags = $tags, r.created_at = $created_at,
  r.writer_epoch = timestamp(), r.writer_batch = 0, r.created_by = $token
SET r.guard = $token
RETURN r.created_by = $token AS created, r.removed_at IS NOT NULL AS removed, r.name AS name, r.status AS status, r.config AS config, r.tags AS tags,
  r.last_step AS last_step, r.last_digest AS last_digest
