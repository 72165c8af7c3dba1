// purpose: Connections that died at a step, found by their ends and their keys and not among all that a neuron ever had. A group: id of the source neuron, layer, then rows of a place among the targets, a tap, and the key.
// parameters: run, step, targets, groups
// columns: layer, died
UNWIND range(0, size($targets) - 1) AS place
MATCH (b:Neuron {id: $targets[place]})
WITH place, b ORDER BY place
WITH collect(b) AS targets
WHERE size(targets) = size($targets)
UNWIND $groups AS g
MATCH (a:Neuron {id: g[0]})
UNWIND g[2] AS row
WITH g[1] AS layer, row[1] AS tap, row[2] AS key, a, targets[row[0]] AS b
MATCH (a)-[c:CONNECTS {alive: key}]->(b)
USING INDEX SEEK c:CONNECTS(alive)
WHERE c.run = $run AND c.layer = layer AND c.tap = tap
SET c.died_step = $step
REMOVE c.alive
RETURN layer, count(c) AS died
