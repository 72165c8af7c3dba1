// purpose: Say up to which step the connections of layers are projected, and how many lifetimes stand in the graph. A row: id of the layer, step, lifetimes.
// parameters: rows
// columns: moved
UNWIND $rows AS row
MATCH (y:Layer {id: row[0]})
SET y.projected_step = row[1], y.lifetimes = row[2]
RETURN count(y) AS moved
