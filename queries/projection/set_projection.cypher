// purpose: Say whether the connections of a layer are projected: follow, off, or limit (stopped where it stands).
// parameters: id, projection
// columns: id
MATCH (y:Layer {id: $id})
SET y.projection = $projection
RETURN y.id AS id
