// purpose: Add metrics of layers that a snapshot does not have yet. A row: layer, properties.
// parameters: id, rows
// columns: layers
MATCH (s:Snapshot {id: $id})
SET s.has_layer_metrics = true
WITH s
UNWIND $rows AS row
MATCH (s)-[h:HAS_MASK {layer: row[0]}]->(:Mask)
SET h += row[1]
RETURN count(h) AS layers
