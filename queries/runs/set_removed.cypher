// purpose: Say when a run was removed, or with null that it was not.
// parameters: run, at
// columns: id
MATCH (r:Run {id: $run})
SET r.removed_at = $at
RETURN r.id AS id
