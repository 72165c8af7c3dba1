// purpose: Say what a snapshot's masks come to.
// parameters: id, digest, nnz
// columns: id
MATCH (s:Snapshot {id: $id})
SET s.digest = $digest, s.nnz = $nnz
RETURN s.id AS id
