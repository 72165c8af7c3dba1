// purpose: Add metrics that a snapshot does not have yet.
// parameters: id, metrics
// columns: id
MATCH (s:Snapshot {id: $id})
SET s += $metrics
RETURN s.id AS id
