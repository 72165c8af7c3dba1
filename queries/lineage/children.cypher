// purpose: The runs that descend from snapshots of some runs.
// parameters: runs
// columns: child, parent
UNWIND $runs AS id
MATCH (r:Run)-[:DESCENDS_FROM]->(s:Snapshot {run: id})
RETURN DISTINCT r.id AS child, s.id AS parent
ORDER BY child, parent
