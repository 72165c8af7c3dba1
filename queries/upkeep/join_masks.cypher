// purpose: Say which mask each layer has in a snapshot. A row: layer, digest, properties.
// parameters: id, rows
// columns: masks
MATCH (s:Snapshot {id: $id})
UNWIND $rows AS row
MATCH (m:Mask {digest: row[1]})
CREATE (s)-[h:HAS_MASK]->(m)
SET h = row[2], h.layer = row[0]
RETURN count(h) AS masks
