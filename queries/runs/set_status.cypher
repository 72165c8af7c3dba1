// purpose: Say where a run stands: open, finished or failed.
// parameters: run, status
// columns: id
MATCH (r:Run {id: $run})
SET r.status = $status
RETURN r.id AS id
