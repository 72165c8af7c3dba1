// purpose: Say up to which step the connections of a layer are projected, and how many lifetimes stand in the graph.
// parameters: id, step, lifetimes
// columns: id
MATCH (y:Layer {id: $id})
SET y.projected_step = $step, y.lifetimes = $lifetimes
RETURN y.id AS id
