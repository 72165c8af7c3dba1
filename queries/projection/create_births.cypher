// purpose: Connections born at a step, each target neuron looked up once. A group: id of the source neuron, layer, then rows of a place among the targets, a tap, and the key under which the connection is found when it dies.
// parameters: run, step, targets, groups
// columns: layer, born
UNWIND range(0, size($targets) - 1) AS place
MATCH (b:Neuron {id: $targets[place]})
WITH place, b ORDER BY place
WITH collect(b) AS targets
WHERE size(targets) = size($targets)
UNWIND $groups AS g
MATCH (a:Neuron {id: g[0]})
UNWIND g[2] AS row
WITH g[1] AS layer, row[1] AS tap, row[2] AS key, a, targets[row[0]] AS b
CREATE (a)-[c:CONNECTS {run: $run, layer: layer, tap: tap, born_step: $step, alive: key}]->(b)
RETURN layer, count(c) AS born
