// purpose: The topology digests of some snapshots.
// parameters: ids
// columns: id, digest
UNWIND $ids AS id
MATCH (s:Snapshot {id: id})
RETURN s.id AS id, s.digest AS digest
