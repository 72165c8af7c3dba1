// purpose: Give a tile of distances its values.
// parameters: id, data
// columns: id
MATCH (b:DistanceBlock {id: $id})
SET b.data = $data
RETURN b.id AS id
