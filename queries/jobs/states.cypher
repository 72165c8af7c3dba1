// purpose: How far each job is: what tells a listener that something is new.
// parameters: none
// columns: id, status, done, total
MATCH (j:Job)
RETURN j.id AS id, j.status AS status, j.done AS done, j.total AS total
