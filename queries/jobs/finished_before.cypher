// purpose: The jobs that were done before a moment.
// parameters: at
// columns: id
MATCH (j:Job)
WHERE j.finished_at < $at
RETURN j.id AS id
