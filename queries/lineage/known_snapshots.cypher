// purpose: Which of some snapshots the archive holds.
// parameters: ids
// columns: id
UNWIND $ids AS id
MATCH (s:Snapshot {id: id})
RETURN s.id AS id
