// purpose: Say with which snapshots a run begins and ends.
// parameters: run, first, last, digest
// columns: id
MATCH (r:Run {id: $run})
SET r.first_step = $first, r.last_step = $last, r.last_digest = $digest
RETURN r.id AS id
