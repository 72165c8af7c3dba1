// purpose: Tiles of distances by their ids.
// parameters: ids
// columns: id, data, details
UNWIND $ids AS id
MATCH (b:DistanceBlock {id: id})
RETURN b.id AS id, b.data AS data, b.details AS details
