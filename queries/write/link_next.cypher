// purpose: Let the snapshot follow the one before it.
// parameters: before, after
// columns: id
MATCH (a:Snapshot {id: $before})
MATCH (b:Snapshot {id: $after})
CREATE (a)-[:NEXT]->(b)
RETURN b.id AS id
