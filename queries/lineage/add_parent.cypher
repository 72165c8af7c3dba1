// purpose: Declare that a run descends from a snapshot of another.
// parameters: run, parent, how
// columns: how
MATCH (r:Run {id: $run})
MATCH (s:Snapshot {id: $parent})<-[:HAS_SNAPSHOT]-(p:Run)
WHERE p.removed_at IS NULL
MERGE (r)-[d:DESCENDS_FROM]->(s)
ON CREATE SET d.how = $how
RETURN d.how AS how
