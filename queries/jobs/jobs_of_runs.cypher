// purpose: The jobs whose requests name one of some runs.
// parameters: runs
// columns: id
MATCH (j:Job)
WHERE any(run IN j.runs WHERE run IN $runs)
RETURN j.id AS id
