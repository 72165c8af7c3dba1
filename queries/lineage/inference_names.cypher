// purpose: A page of the names of stored inferences, in order.
// parameters: after, limit
// columns: id
MATCH (i:Inference)
WHERE i.id > $after
RETURN i.id AS id
ORDER BY id
LIMIT $limit
