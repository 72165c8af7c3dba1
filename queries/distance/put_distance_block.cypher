// purpose: Give a tile of distances its values.
// parameters: id, data, details
// columns: id
MATCH (b:DistanceBlock {id: $id})
SET b.data = $data, b.details = $details
RETURN b.id AS id
