// purpose: Connections that died at a step. A group: id of the source neuron, then codes target index * taps + tap.
// parameters: layer, taps, step, groups
// columns: died
UNWIND $groups AS g
MATCH (a:Neuron {id: g[0]})-[c:CONNECTS]->(b:Neuron)
WHERE c.layer = $layer AND c.died_step IS NULL AND (b.index * $taps + c.tap) IN g[1]
SET c.died_step = $step
RETURN count(c) AS died
