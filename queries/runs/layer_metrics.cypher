// purpose: The metrics of the layers of some snapshots, as properties of what joins snapshot and mask.
// parameters: ids
// columns: id, layer, mask
UNWIND $ids AS id
MATCH (:Snapshot {id: id})-[h:HAS_MASK]->(:Mask)
RETURN id, h.layer AS layer, h AS mask
ORDER BY id, layer
