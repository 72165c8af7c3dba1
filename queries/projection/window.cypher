// purpose: How many snapshots a run has from one to another, both included.
// parameters: first, last
// columns: snapshots
MATCH (a:Snapshot {id: $first})
MATCH (b:Snapshot {id: $last})
RETURN b.position - a.position + 1 AS snapshots
