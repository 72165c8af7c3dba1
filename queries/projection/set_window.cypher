// purpose: Say from which step on the lifetimes of layers are whole in the graph, before those that ended by then are taken away; trimming says that some may stand there.
// parameters: ids, step, trimming
// columns: layers
UNWIND $ids AS id
MATCH (y:Layer {id: id})
SET y.projected_from = $step, y.trimming = CASE WHEN $trimming THEN true END
RETURN count(y) AS layers
