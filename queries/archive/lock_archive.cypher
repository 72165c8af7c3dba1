// purpose: Take the lock under which the descent of runs is changed, so that two writers never close a cycle together.
// parameters: token
// columns: id
MATCH (a:Archive)
SET a.guard = $token
RETURN a.id AS id
