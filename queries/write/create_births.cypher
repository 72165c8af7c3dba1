// purpose: Connections born at a step. A group: id of the source neuron, layer, then rows of id of the target neuron and tap.
// parameters: run, step, groups
// columns: layer, born
UNWIND $groups AS g
MATCH (a:Neuron {id: g[0]})
UNWIND g[2] AS row
MATCH (b:Neuron {id: row[0]})
CREATE (a)-[c:CONNECTS {run: $run, layer: g[1], tap: row[1], born_step: $step}]->(b)
RETURN g[1] AS layer, count(c) AS born
