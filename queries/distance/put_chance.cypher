// purpose: Keep the levels that independent networks of the degrees of two networks have, beside the tiles of distances.
// parameters: id, alignment, options, version, data
// columns: id
MERGE (b:DistanceBlock {id: $id})
SET b.alignment = $alignment, b.options = $options, b.version = $version, b.family = 'chance', b.data = $data
RETURN b.id AS id
