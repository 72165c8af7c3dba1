// purpose: Some snapshots by their ids, run@step.
// parameters: ids
// columns: snapshot
UNWIND $ids AS id
MATCH (s:Snapshot {id: id})
RETURN s AS snapshot
