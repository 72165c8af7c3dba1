// purpose: One snapshot by its id, run@step.
// parameters: id
// columns: snapshot
MATCH (s:Snapshot {id: $id})
RETURN s AS snapshot
