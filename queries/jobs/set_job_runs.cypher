// purpose: Say which runs the result of a job is about.
// parameters: id, runs
// columns: id
MATCH (j:Job {id: $id})
SET j.runs = $runs
RETURN j.id AS id
