// purpose: Connections that died at a step. A group: id of the source neuron, layer, its taps, then codes target index * taps + tap.
// parameters: step, groups
// columns: layer, died
UNWIND $groups AS g
MATCH (a:Neuron {id: g[0]})-[c:CONNECTS]->(b:Neuron)
WHERE c.layer = g[1] AND c.died_step IS NULL AND (b.index * g[2] + c.tap) IN g[3]
SET c.died_step = $step
RETURN g[1] AS layer, count(c) AS died
