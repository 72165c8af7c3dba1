// purpose: How far each run has come: what tells a listener that something is new.
// parameters: none
// columns: run, last_step, status
MATCH (r:Run)
RETURN r.id AS run, r.last_step AS last_step, r.status AS status
ORDER BY run
