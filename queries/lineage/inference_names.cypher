// purpose: The first names of stored inferences, in order.
// parameters: limit
// columns: id
MATCH (i:Inference)
WHERE i.id > ''
RETURN i.id AS id
ORDER BY id
LIMIT $limit
