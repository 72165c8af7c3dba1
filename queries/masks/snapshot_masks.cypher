// purpose: Which mask each layer has in each of some snapshots.
// parameters: ids
// columns: id, layer, digest, depth, nnz
UNWIND $ids AS id
MATCH (:Snapshot {id: id})-[h:HAS_MASK]->(m:Mask)
RETURN id, h.layer AS layer, m.digest AS digest, m.depth AS depth, m.nnz AS nnz
