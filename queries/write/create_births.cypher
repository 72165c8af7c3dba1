// purpose: Connections born at a step. A group: id of the source neuron, then rows of id of the target neuron and tap.
// parameters: run, layer, step, groups
// columns: born
UNWIND $groups AS g
MATCH (a:Neuron {id: g[0]})
UNWIND g[1] AS row
MATCH (b:Neuron {id: row[0]})
CREATE (a)-[c:CONNECTS {run: $run, layer: $layer, tap: row[1], born_step: $step}]->(b)
RETURN count(c) AS born
