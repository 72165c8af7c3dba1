// purpose: Some snapshots by their ids, run@step, unless their run was removed.
// parameters: ids, removed
// columns: snapshot
UNWIND $ids AS id
MATCH (s:Snapshot {id: id})<-[:HAS_SNAPSHOT]-(r:Run)
WHERE $removed OR r.removed_at IS NULL
RETURN s AS snapshot
